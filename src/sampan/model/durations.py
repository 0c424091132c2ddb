"""Spans of time as Go writes them: `100ms`, `1h30m`, `-1.5s`, `0`.

Source: pkg.go.dev/time, ParseDuration and Duration.String.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Duration", "parse", "text"]

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # U+00B5, micro sign
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST: Final = 64


class Duration(float):
    """Seconds; a type of its own, so that configuration may give text for it."""

    __slots__ = ()

    def __str__(self) -> str:
        return text(self)


def parse(value: str) -> Duration:
    """Return the seconds that `value` means.

    Raises:
      ValueError: it is no duration.
    """
    sign, rest = 1.0, value
    if rest[:1] in ("+", "-"):
        sign, rest = (-1.0 if rest[0] == "-" else 1.0), rest[1:]
    if rest == "0":
        return Duration(0.0)
    at, total = 0, 0.0
    while at < len(rest) <= _LONGEST:
        match = _PART.match(rest, at)
        if match is None:
            break
        total += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    if not rest or at != len(rest):
        raise ValueError(f"{value!r} is no duration such as 100ms, 30s or 1h30m")
    return Duration(sign * total)


def text(seconds: float) -> str:
    """Write seconds as Go does: `100ms`, `4h0m0s`, `0s`."""
    ns = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and ns else ""
    if ns == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if ns < size * 1000:
            return f"{sign}{_number(ns, size)}{unit}"
    if ns < 60 * 10**9:
        return f"{sign}{_number(ns, 10**9)}s"
    minutes, rest = divmod(ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m"
    return f"{sign}{head}{_number(rest, 10**9)}s"


def _number(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(size)) - 1}d}".rstrip("0")
