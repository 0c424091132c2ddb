"""Signals as a new program should find them, and reading them as an event.

Python ignores SIGPIPE and SIGXFSZ at start, and what is ignored stays ignored across execve.
`signal.signal` cannot put this right for every number, and importing `signal` costs a millisecond.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` is slow to load
import ctypes
import os
import struct

from sampan.linux._libc import by_number, check

__all__ = [
    "SIGNALS",
    "block",
    "block_all",
    "ignored_and_caught",
    "mask",
    "reset_dispositions",
    "reset_mask",
    "set_disposition_ignore",
    "set_mask",
    "signalfd",
    "signalfd_read",
]

_SIG_BLOCK, _SIG_UNBLOCK, _SIG_SETMASK = 0, 1, 2
_NSIG = 64
_SIZE = 8
_SFD_CLOEXEC, _SFD_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK

# Source: asm-generic/signal.h, the same on x86_64 and aarch64.
_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP"
    " TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
SIGNALS: dict[str, int] = {name: number for number, name in enumerate(_NAMES.split(), 1)}
"""Numbers of the standard signals by their names without SIG."""

_rt_sigaction = by_number("rt_sigaction", 4)
_rt_sigprocmask = by_number("rt_sigprocmask", 4)
_signalfd4 = by_number("signalfd4", 4)

_DEFAULT_ACTION = bytes(32)
_IGNORE_ACTION = struct.pack("=4Q", 1, 0, 0, 0)
_UNCHANGEABLE = (9, 19)


def reset_dispositions() -> None:
    """Give every signal, real-time ones included, its default disposition.

    For a process about to exec: Python's own handlers, SIGINT's among them, are gone afterwards
    although the `signal` module still believes in them.
    """
    for number in range(1, _NSIG + 1):
        if number not in _UNCHANGEABLE:
            check(_rt_sigaction(number, _DEFAULT_ACTION, None, _SIZE), "rt_sigaction")


def set_disposition_ignore(number: int) -> None:
    """Ignore signal `number`, behind the back of the `signal` module."""
    check(_rt_sigaction(number, _IGNORE_ACTION, None, _SIZE), "rt_sigaction")


def mask() -> int:
    """Return the calling thread's blocked signals; signal n is bit n-1."""
    old = ctypes.c_uint64()
    check(_rt_sigprocmask(_SIG_BLOCK, None, ctypes.byref(old), _SIZE), "rt_sigprocmask")
    return old.value


def set_mask(blocked: int) -> int:
    """Block exactly the signals in `blocked` and return those that were; signal n is bit n-1."""
    old = ctypes.c_uint64()
    new = struct.pack("=Q", blocked)
    check(_rt_sigprocmask(_SIG_SETMASK, new, ctypes.byref(old), _SIZE), "rt_sigprocmask")
    return old.value


def reset_mask() -> None:
    """Block no signal at all."""
    set_mask(0)


def block(*numbers: int) -> None:
    """Block these signals, too."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, numbers)


def block_all() -> int:
    """Block every signal that can be blocked; return the former mask for `set_mask`."""
    return set_mask((1 << _NSIG) - 1)


def signalfd(blocked: int, fd: int = -1, *, nonblock: bool = True) -> int:
    """Return a CLOEXEC fd from which the signals in `blocked` can be read; the caller owns it.

    They must be blocked (`set_mask`) to arrive here. With `fd`, its set is replaced.

    Source: signalfd(2).
    """
    flags = _SFD_CLOEXEC | (_SFD_NONBLOCK if nonblock else 0)
    new = struct.pack("=Q", blocked)
    return check(_signalfd4(fd, new, _SIZE, flags), "signalfd4")


def signalfd_read(fd: int) -> list[tuple[int, int]]:
    """Return `(signal, sender's pid)` for each signal waiting in `fd`; empty if there is none.

    Source: signalfd(2), struct signalfd_siginfo (128 bytes; ssi_signo first, ssi_pid at 12).
    """
    try:
        data = os.read(fd, 128 * 16)
    except BlockingIOError:
        return []
    found = []
    for offset in range(0, len(data), 128):
        number, _, _, pid = struct.unpack_from("=IiiI", data, offset)
        found.append((number, pid))
    return found


def ignored_and_caught(pid: int | str = "self") -> tuple[int, int]:
    """Return the sets of signals that a process ignores and catches, from /proc/PID/status."""
    fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.read(fd, 16384)
    finally:
        os.close(fd)
    sets = {}
    for line in status.splitlines():
        key, _, value = line.partition(b":")
        if key in (b"SigIgn", b"SigCgt"):
            sets[key] = int(value, 16)
    return sets[b"SigIgn"], sets[b"SigCgt"]
