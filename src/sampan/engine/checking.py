"""Tables of configuration against types: wrong types are errors, unknown keys are listed.

An error names the file and the key as a reader of the file would write it:
`plugins."io.containerd.gc.v1.scheduler".mutation_threshold`.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, Union

import msgspec

from sampan.errors import InvalidArgument
from sampan.model import durations

__all__ = ["builtins_of", "converted", "dotted", "quoted", "unknown_keys"]

T = TypeVar("T")

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_PATH: Final = re.compile(r" - at `(?:key in )?\$(?P<path>.*)`$")


def converted(table: Mapping[str, Any], kind: type[T], *, source: str, at: Sequence[str] = ()) -> T:
    """Return `table` as a `kind`; unknown keys are ignored here.

    Args:
      table: As TOML gave it.
      kind: A msgspec.Struct class.
      source: The file, for the message.
      at: Of a plugin: its URI; else where the table is in the file.

    Raises:
      InvalidArgument: a value has the wrong type.
    """
    try:
        return msgspec.convert(dict(table), kind, dec_hook=_decode)
    except msgspec.ValidationError as err:
        raise InvalidArgument(_message(str(err), source, at)) from err


def _decode(kind: type[Any], value: object) -> object:
    if kind is durations.Duration:
        if isinstance(value, str):
            return durations.parse(value)
        if isinstance(value, int) and not isinstance(value, bool):
            # As Go reads a bare number for a time.Duration: nanoseconds.
            return durations.Duration(value / 1e9)
        if isinstance(value, float):
            return durations.Duration(value)
        raise ValueError(f'expected a duration such as "30s", got {type(value).__name__}')
    raise NotImplementedError(kind)


def _message(text: str, source: str, at: Sequence[str]) -> str:
    found = _PATH.search(text)
    path, reason = "", text
    if found is not None:
        path, reason = found["path"], text[: found.start()]
    head = dotted(["plugins", *at]) if at and "." in at[0] else dotted(at)
    key = (head + path).removeprefix(".")
    return f"config file {source} is refused: {key or 'top level'}: {reason}"


def unknown_keys(
    table: Mapping[str, Any], kind: object, at: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the paths of keys in `table` that `kind` has no field for."""
    fields = {one.encode_name: one.type for one in msgspec.structs.fields(typing.cast(Any, kind))}
    for key, value in table.items():
        here = (*at, key)
        if key not in fields:
            yield here
        else:
            yield from _below(value, fields[key], here)


def _below(value: object, kind: Any, at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if typing.get_origin(kind) in (Union, types.UnionType):
        structs = [one for one in typing.get_args(kind) if _is_struct(one)]
        kind = structs[0] if len(structs) == 1 else kind
    if _is_struct(kind) and isinstance(value, Mapping):
        yield from unknown_keys(value, kind, at)
    elif typing.get_origin(kind) is dict and isinstance(value, Mapping):
        inner = typing.get_args(kind)[1]
        for name, one in value.items():
            yield from _below(one, inner, (*at, str(name)))


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def dotted(path: Sequence[str]) -> str:
    """Write a path of keys as TOML does."""
    return ".".join(one if _BARE.fullmatch(one) else quoted(one) for one in path)


def quoted(value: str) -> str:
    """Write text as TOML does: JSON's strings, but for DEL, which must be escaped, too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def builtins_of(value: object) -> Any:
    """Return a Struct as tables, lists and scalars that TOML knows; spans of time as text."""

    def hook(one: object) -> object:
        raise NotImplementedError(type(one))

    if isinstance(value, durations.Duration):
        return str(value)
    if isinstance(value, msgspec.Struct):
        names = msgspec.structs.fields(type(value))
        return {
            one.encode_name: builtins_of(found)
            for one in names
            if (found := getattr(value, one.name)) is not None
        }
    if isinstance(value, Mapping):
        return {str(key): builtins_of(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [builtins_of(one) for one in value]
    return msgspec.to_builtins(value, enc_hook=hook)
