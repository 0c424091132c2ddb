r"""containerd's filter expressions: parse once, match many.

    filters   := filter ...                       a list: any of them matches (OR); none: all match
    filter    := selector ("," selector)*         all selectors match (AND); empty matches all
    selector  := fieldpath [operator value]       without operator: the field is present
    fieldpath := field ("." field)*
    field     := [A-Za-z0-9_-]+ | quoted          labels."containerd.io/gc.root"
    operator  := "==" | "!=" | "~="               ~= is a regular expression, found anywhere
    value     := [^,\s]+ | quoted                  bare values begin with none of " / | , . = ! ~
    quoted    := "..." with Go's escapes; after ~= also /.../ and |...|

An object takes part as an `Adaptor`: its `filter_field` gets the field path and returns the value
and whether the field is present. `!=` holds for an absent field, `==` never does; `~=` sees it as
empty.

Regular expressions are Go's RE2 upstream. They are translated where Python writes the same thing
otherwise; an expression that neither reads is refused, where containerd would silently match
nothing. Their length is capped, since Python's engine backtracks.

Source: containerd pkg/filters (grammar), errors worded as there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sampan.errors import InvalidArgument

__all__ = ["Adaptor", "Filter", "Selector", "field_of", "parse", "parse_all"]

MAX_PATTERN_CHARS: Final = 1024

_FIELD = re.compile(r"[A-Za-z0-9_-]+")
_OPERATOR = re.compile(r"[=!~]+")
_BARE = re.compile(r"[^\s,]+")
_SPACE = re.compile(r"\s*")
_SIMPLE_ESCAPES: Final = {
    "a": b"\a", "b": b"\b", "f": b"\f", "n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v", "\\": b"\\",
}  # fmt: skip
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_POSIX_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": r"0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


class Adaptor(Protocol):
    """An object that can be filtered."""

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Return the value at `path`, and whether it is present at all."""
        ...


class Filter(Protocol):
    """Decides whether an object belongs to an answer."""

    def match(self, target: Adaptor) -> bool:
        """Tell whether `target` matches."""
        ...


@dataclass(frozen=True, slots=True)
class Selector:
    """One comparison."""

    path: tuple[str, ...]
    operator: str = ""
    """Empty tests for presence."""
    value: str = ""
    pattern: re.Pattern[str] | None = None

    def match(self, target: Adaptor) -> bool:
        found, present = target.filter_field(self.path)
        if self.operator == "==":
            return present and found == self.value
        if self.operator == "!=":
            return not present or found != self.value
        if self.pattern is not None:
            return self.pattern.search(found) is not None
        return present


@dataclass(frozen=True, slots=True)
class All:
    """Matches what every part matches; empty matches everything."""

    parts: tuple[Filter, ...] = ()

    def match(self, target: Adaptor) -> bool:
        return all(part.match(target) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Matches what at least one part matches."""

    parts: tuple[Filter, ...]

    def match(self, target: Adaptor) -> bool:
        return any(part.match(target) for part in self.parts)


def parse_all(texts: Iterable[str]) -> Filter:
    """Parse a list of filters, of which any may match; an empty list matches everything.

    Raises:
      InvalidArgument: a text is no filter; the message marks the place.
    """
    parts = tuple(parse(text) for text in texts)
    if not parts:
        return All()
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def parse(text: str) -> Filter:
    """Parse one filter.

    Raises:
      InvalidArgument: `text` is no filter; the message marks the place as `before >|x|< after`.
    """
    return _Parser(text).filter() if text else All()


def field_of(
    path: Sequence[str], values: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> tuple[str, bool]:
    """Answer for a record with plain fields, named by dotted paths, and `labels.<key>`.

    An empty plain value counts as absent, as in containerd's adaptors. Label keys with dots may be
    written bare (`labels.a.b`): the rest of the path is joined.
    """
    if path and path[0] == "labels" and labels is not None:
        found = labels.get(".".join(path[1:])) if len(path) > 1 else None
        return found or "", found is not None
    value = values.get(".".join(path), "")
    return value, bool(value)


class _Parser:
    """Recursive descent over one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        nul = text.find("\0")
        if nul >= 0:
            raise self._error(nul, "unexpected null")

    def filter(self) -> Filter:
        parts = [self._selector()]
        while self._peek() == ",":
            self._at += 1
            parts.append(self._selector())
        if self._peek():
            raise self._error(self._at, f"unexpected input: {self._peek()}")
        return All(tuple(parts))

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _error(self, at: int, message: str) -> InvalidArgument:
        text = self._text
        if at < len(text):
            text = f"{text[:at]} >|{text[at]}|< {text[at + 1 :]}"
        return InvalidArgument(f"filters: parse error: [{text}]: {message}")

    def _selector(self) -> Selector:
        path = [self._field()]
        while self._peek() == ".":
            self._at += 1
            path.append(self._field())
        if self._peek() in ("", ","):
            return Selector(tuple(path))
        operator = self._operator()
        self._skip_space()
        at = self._at
        value = self._value(alternatives=operator == "~=")
        pattern = self._compile(at, value) if operator == "~=" else None
        return Selector(tuple(path), operator, value, pattern)

    def _field(self) -> str:
        self._skip_space()
        if self._peek() and self._peek() in '"/|':
            return self._quoted(alternatives=False)
        found = _FIELD.match(self._text, self._at)
        if found is None:
            raise self._error(self._at, "expected field or quoted")
        self._at = found.end()
        return found.group()

    def _operator(self) -> str:
        self._skip_space()
        found = _OPERATOR.match(self._text, self._at)
        if found is None:
            raise self._error(self._at, 'expected an operator ("=="|"!="|"~=")')
        if found.group() not in ("==", "!=", "~="):
            raise self._error(self._at, f'unsupported operator "{found.group()}"')
        self._at = found.end()
        return found.group()

    def _value(self, *, alternatives: bool) -> str:
        if self._peek() and self._peek() in '"/|':
            return self._quoted(alternatives=alternatives)
        found = _BARE.match(self._text, self._at)
        if found is None or found.group()[0] in ".=!~":
            raise self._error(self._at, "expected value or quoted")
        self._at = found.end()
        return found.group()

    def _quoted(self, *, alternatives: bool) -> str:
        start, quote = self._at, self._peek()
        self._at += 1
        value = bytearray()
        while (char := self._peek()) != quote:
            if char in ("", "\n"):
                raise self._error(start, "quoted literal not terminated")
            if char == "\\":
                value += self._escape(quote)
            else:
                value += char.encode("utf-8", "surrogateescape")
                self._at += 1
        self._at += 1
        if quote != '"' and not alternatives:
            raise self._error(start, "invalid quote encountered")
        return value.decode("utf-8", "surrogateescape")

    def _escape(self, quote: str) -> bytes:
        r"""Read one escape; numbers below 0x100 written by \x or octal are bytes, as in Go."""
        at = self._at
        char = self._text[at + 1 : at + 2]
        self._at += 2
        if char and char == quote:
            return quote.encode()
        if char in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[char]
        if char in _HEX_DIGITS:
            value = self._number(at, self._at, _HEX_DIGITS[char], 16)
            if char == "x":
                return bytes((value,))
            if value > 0x10FFFF or 0xD800 <= value < 0xE000:
                raise self._error(at, "unquoting failed: quote syntax error")
            return chr(value).encode()
        if char and char in "01234567":
            value = self._number(at, at + 1, 3, 8)
            if value > 0xFF:
                raise self._error(at, "unquoting failed: quote syntax error")
            return bytes((value,))
        raise self._error(at, "illegal escape sequence")

    def _number(self, at: int, start: int, count: int, base: int) -> int:
        digits = self._text[start : start + count]
        allowed = "0123456789abcdefABCDEF" if base == 16 else "01234567"
        if len(digits) < count or any(digit not in allowed for digit in digits):
            raise self._error(at, "illegal numeric escape sequence")
        self._at = start + count
        return int(digits, base)

    def _compile(self, at: int, pattern: str) -> re.Pattern[str]:
        if len(pattern) > MAX_PATTERN_CHARS:
            raise self._error(at, f"regular expression longer than {MAX_PATTERN_CHARS} characters")
        try:
            return re.compile(_to_python(pattern))
        except (re.error, OverflowError, RecursionError) as err:
            raise self._error(at, f"regular expression: {err}") from err


def _to_python(pattern: str) -> str:
    r"""Rewrite RE2 where Python spells it otherwise: \z, \Q..\E, [[:alpha:]], \pN is refused."""
    out: list[str] = []
    at = 0
    in_class = False
    while at < len(pattern):
        two = pattern[at : at + 2]
        if two == r"\Q" and not in_class:
            literal, _, _ = pattern[at + 2 :].partition(r"\E")
            out.append(re.escape(literal))
            at += 2 + len(literal) + 2
            continue
        if two == r"\z":
            out.append(r"\Z")
            at += 2
        elif two[0] == "\\":
            out.append(two)
            at += 2
        elif in_class and two == "[:":
            name, closed, _ = pattern[at + 2 :].partition(":]")
            if not closed or name not in _POSIX_CLASSES:
                raise re.error(f"unknown character class [:{name}:]")
            out.append(_POSIX_CLASSES[name])
            at += 4 + len(name)
        else:
            if two[0] == "[" and not in_class:
                in_class = True
                # A "]" that stands first is a member, for both engines.
                lead = re.match(r"\[\^?\]?", pattern[at:])
                out.append(lead.group() if lead else "[")
                at += len(out[-1])
                continue
            if in_class and two[0] == "[":
                out.append(r"\[")
                at += 1
                continue
            if two[0] == "]":
                in_class = False
            # "$" means the very end in RE2; Python would also accept it before a last newline.
            out.append(r"\Z" if two[0] == "$" and not in_class else two[0])
            at += 1
    return "".join(out)
