"""What verbs print: tables as wide as their cells, sizes and times in words."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from sampan.cli.app import Quit
from sampan.errors import InvalidArgument, NotFound, SampanError

__all__ = [
    "age",
    "confirm",
    "each_name",
    "parse_size",
    "print_found",
    "print_json",
    "size",
    "table",
    "warn",
]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a header, columns three blanks apart."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    for line in lines:
        text = "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(text.rstrip())


def print_json(value: Any) -> None:
    """Print a value as docker's inspect does."""
    json.dump(value, sys.stdout, indent=4, ensure_ascii=False)
    print()


def warn(text: str) -> None:
    """Say something on stderr that does not stop us."""
    sys.stderr.write(f"sampan: warning: {text}\n")


def confirm(question: str, *, force: bool) -> bool:
    """Ask before something is removed; `force` is the answer yes.

    Raises:
      Quit: nobody is there to answer.
    """
    if force:
        return True
    if not sys.stdin.isatty():
        raise Quit(1, "this asks before it removes: use -f where nobody answers")
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def each_name(
    names: Iterable[str], do: Callable[[str], Awaitable[object]], *, missing_ok: bool = False
) -> int:
    """Do something to each name and print it; each failure is told. Return the exit status."""
    status = 0
    for name in names:
        try:
            await do(name)
        except NotFound as err:
            if not missing_ok:
                status = _failed(err)
        except SampanError as err:
            status = _failed(err)
        else:
            print(name, flush=True)
    return status


async def print_found(
    names: Iterable[str],
    find: Callable[[str], Awaitable[Mapping[str, object]]],
    template: str = "",
) -> int:
    """Print what is found of each name, as a JSON list or by a template; return the exit status."""
    found, status = [], 0
    for name in names:
        try:
            found.append(await find(name))
        except SampanError as err:
            status = _failed(err)
    if not template:
        print_json(found)
        return status
    from sampan.cli.template import render

    for one in found:
        print(render(template, one))
    return status


def _failed(err: SampanError) -> int:
    sys.stderr.write(f"sampan: {' '.join(str(err).split())}\n")
    return 1


def size(count: float) -> str:
    """Write bytes in decimal units, three digits."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.3g}{_UNITS[unit]}"


def age(then_s: float, now_s: float | None = None) -> str:
    """Write how long ago a moment was, in one unit."""
    seconds = max(0, int((time.time() if now_s is None else now_s) - then_s))
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {name}{'s' if count != 1 else ''}"
    return "less than a second"


def parse_size(text: str) -> int:
    """Read bytes as docker's flags take them: 64m, 1.5g, 1024, 10kb.

    Raises:
      InvalidArgument: it is none.
    """
    low = text.strip().lower().removesuffix("b")
    factor = {"k": 10, "m": 20, "g": 30, "t": 40}.get(low[-1:], 0)
    digits = low[:-1] if factor else low
    if not digits.isascii() or not digits.replace(".", "", 1).isdigit():
        raise InvalidArgument(f"{text!r} is no size: write bytes, or a number with k, m, g or t")
    return int(float(digits) * (1 << factor))
