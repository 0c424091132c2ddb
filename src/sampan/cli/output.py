"""What verbs print: tables as wide as their cells, sizes and times in words."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from sampan.errors import InvalidArgument

__all__ = ["age", "parse_size", "print_json", "size", "table", "warn"]

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
