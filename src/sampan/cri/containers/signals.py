"""Signals by CRI's numbers and by the names that images use, real-time ones included."""

from __future__ import annotations

import signal
from typing import Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument
from sampan.model.image import ContainerConfig

__all__ = ["number_of", "signal_enum", "stop_signal_of"]

_RTMIN, _RTMAX = 34, 64
"""As the C libraries count; the kernel's own 32 and 33 are theirs."""
_ALIASES: Final = {"CLD": signal.SIGCHLD, "POLL": signal.SIGIO, "IOT": signal.SIGABRT}


def number_of(text: str) -> int:
    """Return the number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `RTMAX-1`.

    Raises:
      InvalidArgument: there is no such signal.
    """
    name = text.strip().upper().removeprefix("SIG")
    if name.isascii() and name.isdigit() and 0 < int(name) <= _RTMAX:
        return int(name)
    if name in _ALIASES:
        return int(_ALIASES[name])
    base, sign, rest = name, "", ""
    for mark in "+-":
        if mark in name:
            base, sign, rest = name.partition(mark)
    if base in ("RTMIN", "RTMAX") and (not sign or (rest.isascii() and rest.isdigit())):
        offset = int(rest or 0) * (-1 if sign == "-" else 1)
        number = (_RTMIN if base == "RTMIN" else _RTMAX) + offset
        if _RTMIN <= number <= _RTMAX:
            return number
    found = getattr(signal, f"SIG{name}", None)
    if isinstance(found, signal.Signals):
        return int(found)
    raise InvalidArgument(f"unknown signal {text!r}")


def _name_of(value: int) -> str:
    name = str(pb.Signal.Name(value)).removeprefix("SIGNAL_SIG")
    return name.replace("PLUS", "+").replace("MINUS", "-")


def stop_signal_of(config: pb.ContainerConfig, image: ContainerConfig) -> int:
    """Return what stops a container: the request's signal, or the image's; 0 is the default."""
    if config.stop_signal != pb.SIGNAL_RUNTIME_DEFAULT:
        return number_of(_name_of(config.stop_signal))
    if image.stop_signal:
        try:
            return number_of(image.stop_signal)
        except InvalidArgument:
            return 0  # what an image says is no reason to refuse it
    return 0


def signal_enum(number: int) -> pb.Signal:
    """Return CRI's value for a number."""
    for value in range(1, 66):
        if _name_of(value) in ("CLD", "POLL", "IOT"):
            continue
        if number_of(_name_of(value)) == number:
            return pb.Signal.Name(value) and value  # type: ignore[return-value]
    return pb.SIGNAL_RUNTIME_DEFAULT
