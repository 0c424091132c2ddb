"""TOML: read one file, merge several, write tables.

    main file ─► its imports (globs, relative to the importing file) ─► theirs, each file once

Later files win. At the top level an empty value wins nothing, and lists are appended to, each
element once; below `plugins` tables are merged key by key, and everything else is replaced; the
tables of `proxy_plugins`, `stream_processors` and `timeouts` are replaced one by one.

Source: containerd docs/man/containerd-config.toml.5.md, `imports`.
"""

from __future__ import annotations

import glob
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sampan.engine.checking import dotted, quoted
from sampan.errors import InvalidArgument, PermissionDenied

__all__ = ["dumps", "imported", "loads", "merge", "read"]

_WHOLE: Final = ("proxy_plugins", "stream_processors", "timeouts")
_MOST_FILES: Final = 1000


def read(path: Path) -> dict[str, Any]:
    """Return the tables of a file.

    Raises:
      InvalidArgument: it is missing, or no TOML; the message has line and column.
      PermissionDenied: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidArgument(
            f"config file {path} does not exist: create it, or name none"
        ) from None
    except PermissionError as err:
        raise PermissionDenied(f"config file {path} cannot be read: {err.strerror}") from err
    except OSError as err:
        raise InvalidArgument(f"config file {path} cannot be read: {err.strerror}") from err
    return loads(data, path)


def loads(data: bytes, path: Path) -> dict[str, Any]:
    """Return the tables in `data`, which is the text of `path`.

    Raises:
      InvalidArgument: it is no TOML; the message has line and column.
    """
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as err:
        raise InvalidArgument(f"config file {path} is not UTF-8: byte {err.start}") from err
    except tomllib.TOMLDecodeError as err:
        raise InvalidArgument(f"config file {path} is not TOML: {err}") from err


def imported(path: Path, table: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files that `table`, the content of `path`, imports, and what these import.

    Raises:
      InvalidArgument: a file that is named, not globbed, is missing; or one is no TOML.
    """
    seen = {path}
    pending = list(_named(path, table))
    while pending:
        one = pending.pop(0)
        if one in seen:
            continue
        seen.add(one)
        if len(seen) > _MOST_FILES:
            raise InvalidArgument(f"config file {path} imports more than {_MOST_FILES} files")
        found = read(one)
        yield one, found
        pending += _named(one, found)


def _named(path: Path, table: Mapping[str, Any]) -> Iterator[Path]:
    texts = table.get("imports", [])
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise InvalidArgument(f"config file {path} is refused: imports: expected a list of paths")
    for text in texts:
        full = path.parent / text
        if "*" in text:
            yield from sorted(Path(one) for one in glob.glob(str(full)))
        else:
            yield full


def merge(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    """Put a later file's top-level table over `into`, in place."""
    for key, value in table.items():
        old = into.get(key)
        if key in _WHOLE and isinstance(value, Mapping) and isinstance(old, dict):
            old.update(value)
        elif isinstance(value, Mapping) and isinstance(old, dict):
            _deep(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            into[key] = old + [one for one in value if one not in old]
        elif old is None or value not in ("", 0, [], {}):
            into[key] = value


def _deep(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        old = into.get(key)
        if isinstance(value, Mapping) and isinstance(old, dict):
            _deep(old, value)
        else:
            into[key] = value


def dumps(table: Mapping[str, Any]) -> str:
    """Write tables as TOML: scalars first, then subtables, each under its full name."""
    lines: list[str] = []
    _write(table, (), lines)
    return "\n".join(lines) + "\n"


def _write(table: Mapping[str, Any], at: tuple[str, ...], lines: list[str]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    if at and (plain or not tables):
        if lines:
            lines.append("")
        lines.append(f"[{dotted(at)}]")
    lines += [f"{dotted([key])} = {_value(value)}" for key, value in plain.items()]
    for key, value in tables.items():
        _write(value, (*at, key), lines)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_value(one) for one in value)}]"
        case Mapping():
            pairs = ", ".join(f"{dotted([key])} = {_value(one)}" for key, one in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return str(value)
