"""Signals by name or number, as people write them."""

from __future__ import annotations

import signal

from sampan.errors import InvalidArgument

__all__ = ["parse"]


def parse(text: str) -> int:
    """Return a signal's number: `9`, `KILL`, `SIGKILL`, `RTMIN+3`.

    Raises:
      InvalidArgument: there is none of that name or number.
    """
    if text.isascii() and text.isdigit() and len(text) < 4:
        number = int(text)
        if 0 < number < signal.NSIG:
            return number
    name = text.upper().removeprefix("SIG")
    base, plus, offset = name.partition("+")
    found = getattr(signal, f"SIG{base}", None)
    if isinstance(found, signal.Signals):
        if not plus:
            return int(found)
        if base == "RTMIN" and offset.isascii() and offset.isdigit() and len(offset) < 3:
            number = int(found) + int(offset)
            if number <= signal.SIGRTMAX:
                return number
    raise InvalidArgument(f"unknown signal {text!r}: see signal(7)")
