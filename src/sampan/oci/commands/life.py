"""start, kill, delete, pause and resume."""

# ruff: noqa: A001  id and globals are runc's words

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.oci.arguments import Flags, parse
from sampan.oci.commands import one_id, state_root
from sampan.oci.container import discard, load

__all__ = ["delete", "kill", "pause", "resume", "start"]

_SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
    "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
)  # fmt: skip
"""By number, from 1; `signal` costs 2 ms to import. Source: signal(7)."""


def start(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    load(state_root(globals), one_id(flags, "start")).start()
    return 0


def kill(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "all|a")
    if not 1 <= len(flags.rest) <= 2:
        raise InvalidArgument('sampan-oci: "kill" requires a minimum of 1 argument(s)')
    number = _signal(flags.rest[1] if len(flags.rest) > 1 else "SIGTERM")
    load(state_root(globals), flags.rest[0]).kill(number, all=flags.has("all"))
    return 0


def _signal(text: str) -> int:

    if text.isascii() and text.isdigit() and 0 < int(text) < 65:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name not in _SIGNALS:
        raise InvalidArgument(f"unknown signal {text!r}")
    return _SIGNALS.index(name) + 1


def delete(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "force|f")
    id, force = one_id(flags, "delete"), flags.has("force")
    if force:
        discard(state_root(globals), id)
    else:
        load(state_root(globals), id).delete()
    return 0


def pause(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    load(state_root(globals), one_id(flags, "pause")).pause()
    return 0


def resume(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    load(state_root(globals), one_id(flags, "resume")).resume()
    return 0
