r"""`--format`: json, and the part of Go's templates that people use with docker.

    {{.State.Status}}  {{json .Mounts}}  {{upper .Name | printf "%-10s"}}  {{index .Labels "key"}}
    {{range .Ports}}{{.HostPort}} {{else}}none{{end}}   {{range $k, $v := .Networks}}...{{end}}
    {{if and .Running (not .Paused)}}up{{else if eq .ExitCode 0}}done{{else}}failed{{end}}
    {{with .Health}}{{.Status}}{{end}}   {{$x := .Name}}{{$x}}   {{- trims -}}   {{/* a comment */}}

Functions: json, join, split, upper, lower, title, pad, truncate, len, index, slice, print, printf,
println, eq, ne, lt, le, gt, ge, and, or, not. `\t` and `\n` outside of actions are tab and newline.
A leading `table ` is for `cli.listing`. Source: text/template; docker's "Format command and log
output".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from sampan.errors import InvalidArgument

__all__ = ["fields_of", "render"]

_ACTION: Final = re.compile(
    r"\{\{(- )?\s*(/\*.*?\*/|(?:`[^`]*`|\"(?:\\.|[^\"\\])*\"|[^}`\"])*?)\s*( -)?\}\}", re.DOTALL
)
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])"""
    r"""|(?P<mark>:=|[()|,=])|(?P<path>\$\w*(?:\.\w[\w-]*)*|(?:\.\w[\w-]*)+|\.)|(?P<word>\w+))"""
)

Scope = dict[str, Any]
"""Of `.` and the variables `$`, `$name`."""
Piece = Callable[[Scope], str]
Value = Callable[[Scope], Any]


def render(template: str, value: Any) -> str:
    """Return `value` as the template says.

    Raises:
      InvalidArgument: the template is malformed, or names what the value has not.
    """
    if template == "json":
        return json.dumps(value, ensure_ascii=False, default=str)
    return _compiled(template)({".": value, "$": value})


def fields_of(template: str) -> list[str]:
    """Return the names of the fields that a template shows, in order."""
    return [
        match.group("path").strip(".").rpartition(".")[2]
        for action in _ACTION.finditer(template)
        for match in _TOKEN.finditer(action.group(2))
        if (match.group("path") or "").strip(".$")
    ]


def _wrong(text: str) -> InvalidArgument:
    return InvalidArgument(f"format: {text}")


def _compiled(template: str) -> Piece:
    parts = list(_parts(template.replace("\\t", "\t").replace("\\n", "\n")))
    piece, rest, _ = _block(parts, 0, frozenset())
    if rest != len(parts):
        raise _wrong(f"{{{{{parts[rest][1]}}}}} has no beginning")
    return piece


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """Yield (is an action, its text) in order, blanks trimmed where `-` says so."""
    at, trim = 0, False
    for match in _ACTION.finditer(text):
        plain = text[at : match.start()]
        plain = plain.lstrip() if trim else plain
        yield False, plain.rstrip() if match.group(1) else plain
        if not match.group(2).startswith("/*"):
            yield True, match.group(2)
        at, trim = match.end(), bool(match.group(3))
    rest = text[at:].lstrip() if trim else text[at:]
    if "{{" in rest:
        raise _wrong(f"{rest[rest.index('{{') :]!r} does not end")
    yield False, rest


def _block(parts: list[tuple[bool, str]], at: int, ends: frozenset[str]) -> tuple[Piece, int, str]:
    """Compile until one of `ends`; return the piece, where it stopped, and the action there."""
    pieces: list[Piece] = []
    while at < len(parts):
        action, text = parts[at]
        word = text.split(maxsplit=1)[0] if action and text.split() else ""
        if action and word in ("end", "else"):
            return _joined(pieces), at, text
        at += 1
        if not action:
            pieces.append(lambda _, text=text: text)  # type: ignore[misc]
        elif word in ("if", "range", "with"):
            piece, at = _branch(parts, at, word, text[len(word) :])
            pieces.append(piece)
        else:
            pieces.append(_printed(text))
    if ends:
        raise _wrong("an {{if}}, {{range}} or {{with}} has no {{end}}")
    return _joined(pieces), at, ""


def _joined(pieces: list[Piece]) -> Piece:
    return lambda scope: "".join(piece(scope) for piece in pieces)


def _branch(parts: list[tuple[bool, str]], at: int, word: str, condition: str) -> tuple[Piece, int]:
    names, value = _assigned(condition)
    body, at, stop = _block(parts, at, frozenset(("end", "else")))
    other: Piece = lambda _: ""  # noqa: E731
    if stop.startswith("else"):
        rest = stop[4:].strip()
        if rest.startswith("if"):
            other, at = _branch(parts, at + 1, "if", rest[2:])
            return _chosen(word, names, value, body, other), at
        other, at, _ = _block(parts, at + 1, frozenset(("end",)))
    return _chosen(word, names, value, body, other), at + 1


def _chosen(word: str, names: list[str], value: Value, body: Piece, other: Piece) -> Piece:
    def once(scope: Scope) -> str:
        found = value(scope)
        if not found:
            return other(scope)
        more = {names[0]: found} if names else {}
        return body({**scope, **more, **({".": found} if word == "with" else {})})

    def each(scope: Scope) -> str:
        found = value(scope)
        if not isinstance(found, (list, tuple, dict, type(None))):
            raise _wrong(f"range over {type(found).__name__}: want a list or a map")
        pairs = sorted(found.items()) if isinstance(found, dict) else list(enumerate(found or ()))
        if not pairs:
            return other(scope)
        out = []
        for key, item in pairs:
            more = dict(zip(names, (key, item) if len(names) > 1 else (item,), strict=False))
            out.append(body({**scope, **more, ".": item}))
        return "".join(out)

    return each if word == "range" else once


def _assigned(text: str) -> tuple[list[str], Value]:
    """Split `$a, $b := pipeline`."""
    head, mark, tail = text.partition(":=")
    names = [name.strip() for name in head.split(",")]
    if mark and all(re.fullmatch(r"\$\w+", name) for name in names):
        return names, _pipeline(tail)
    return [], _pipeline(text)


def _printed(text: str) -> Piece:
    names, value = _assigned(text)

    def assign(scope: Scope) -> str:
        scope[names[0]] = value(scope)
        return ""

    return assign if names else lambda scope: _text(value(scope))


def _pipeline(text: str) -> Value:
    tokens: list[tuple[str, str]] = []
    at = 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None or match.lastgroup is None:
            raise _wrong(f"cannot read {{{{{text.strip()}}}}}")
        tokens.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    value, rest = _commands(tokens, 0)
    if rest != len(tokens):
        raise _wrong(f"cannot read {{{{{text.strip()}}}}}")
    return value


def _commands(tokens: list[tuple[str, str]], at: int) -> tuple[Value, int]:
    """Compile `a | b x | c`, up to a closing parenthesis."""
    value: Value | None = None
    while True:
        operands, at = _operands(tokens, at)
        value = _call(operands, value)
        if at < len(tokens) and tokens[at] == ("mark", "|"):
            at += 1
            continue
        return value, at


def _operands(tokens: list[tuple[str, str]], at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while at < len(tokens):
        kind, text = tokens[at]
        if kind == "mark":
            if text != "(":
                break
            inner, at = _commands(tokens, at + 1)
            if at >= len(tokens) or tokens[at] != ("mark", ")"):
                raise _wrong("a parenthesis is not closed")
            found.append(inner)
        else:
            found.append(_operand(kind, text))
        at += 1
    return found, at


def _operand(kind: str, text: str) -> Any:
    if kind == "string":
        literal = text[1:-1] if text[0] == "`" else json.loads(text)
        return lambda _: literal
    if kind == "number":
        number = float(text) if "." in text else int(text)
        return lambda _: number
    if kind == "path":
        return lambda scope: _at(text, scope)
    if text in ("true", "false", "nil"):
        constant = {"true": True, "false": False, "nil": None}[text]
        return lambda _: constant
    return text


def _call(operands: list[Any], piped: Value | None) -> Value:
    if not operands:
        raise _wrong("an empty action")
    first, *rest = operands
    if any(isinstance(one, str) for one in rest):
        name = next(one for one in rest if isinstance(one, str))
        raise _wrong(f"{name!r} is no value")
    arguments: list[Value] = [*rest, *([piped] if piped is not None else [])]
    if isinstance(first, str):
        if first not in _FUNCTIONS:
            raise _wrong(f"no function {first!r}: there are {', '.join(sorted(_FUNCTIONS))}")
        function = _FUNCTIONS[first]

        def call(scope: Scope) -> Any:
            try:
                return function(*(one(scope) for one in arguments))
            except (TypeError, ValueError, LookupError) as err:
                raise _wrong(f"{first}: {err}") from err

        return call
    if arguments:
        raise _wrong("a value takes no arguments")
    value: Value = first
    return value


def _at(path: str, scope: Scope) -> Any:
    head, _, tail = path.partition(".")
    if head and head not in scope:
        raise _wrong(f"no variable {head}")
    value = scope[head or "."]
    for name in tail.split("."):
        if name:
            value = _item(value, name, path)
    return value


def _item(value: Any, name: Any, path: str) -> Any:
    if isinstance(value, dict):
        if name in value:
            return value[name]
        have = ", ".join(sorted(str(key) for key in value)) or "nothing"
        raise _wrong(f"no {name!r} in {path!r}: there is {have}")
    if isinstance(value, (list, tuple, str)) and isinstance(name, int) and 0 <= name < len(value):
        return value[name]
    raise _wrong(f"no {name!r} in {path!r}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else _item(value, key, "index")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _printf(form: str, *values: Any) -> str:
    plain = form.replace("%v", "%s").replace("%q", '"%s"').replace("%t", "%s")
    return plain % tuple(
        v if isinstance(v, (int, float)) and v is not True else _text(v) for v in values
    )


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "json": lambda value: json.dumps(value, ensure_ascii=False, default=str),
    "join": lambda values, separator: str(separator).join(_text(one) for one in values or ()),
    "split": lambda text, separator: str(text).split(separator),
    "upper": lambda text: _text(text).upper(),
    "lower": lambda text: _text(text).lower(),
    "title": lambda text: _text(text).title(),
    "pad": lambda text, before, after: " " * before + _text(text) + " " * after,
    "truncate": lambda text, length: _text(text)[:length],
    "len": lambda value: len(value or ()),
    "index": _index,
    "slice": lambda value, *ends: value[slice(*(ends if len(ends) > 1 else (ends[0], None)))],
    "print": lambda *values: " ".join(_text(one) for one in values),
    "println": lambda *values: " ".join(_text(one) for one in values) + "\n",
    "printf": _printf,
    "eq": lambda first, *others: any(first == one for one in others),
    "ne": lambda one, two: one != two,
    "lt": lambda one, two: one < two,
    "le": lambda one, two: one <= two,
    "gt": lambda one, two: one > two,
    "ge": lambda one, two: one >= two,
    "and": lambda *values: next((one for one in values if not one), values[-1]),
    "or": lambda *values: next((one for one in values if one), values[-1]),
    "not": lambda value: not value,
}
