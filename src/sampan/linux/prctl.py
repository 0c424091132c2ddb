"""prctl(2), one function for each operation a runtime needs."""

from __future__ import annotations

import ctypes

from sampan.linux._libc import by_number, check

__all__ = [
    "SECBIT_KEEP_CAPS",
    "SECBIT_KEEP_CAPS_LOCKED",
    "SECBIT_NOROOT",
    "SECBIT_NOROOT_LOCKED",
    "SECBIT_NO_CAP_AMBIENT_RAISE",
    "SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED",
    "SECBIT_NO_SETUID_FIXUP",
    "SECBIT_NO_SETUID_FIXUP_LOCKED",
    "get_child_subreaper",
    "get_dumpable",
    "get_keepcaps",
    "get_name",
    "get_no_new_privs",
    "get_pdeathsig",
    "get_securebits",
    "get_timerslack",
    "prctl",
    "set_child_subreaper",
    "set_dumpable",
    "set_io_flusher",
    "set_keepcaps",
    "set_name",
    "set_no_new_privs",
    "set_pdeathsig",
    "set_securebits",
    "set_timerslack",
]

SECBIT_NOROOT = 1 << 0
SECBIT_NOROOT_LOCKED = 1 << 1
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_NO_SETUID_FIXUP_LOCKED = 1 << 3
SECBIT_KEEP_CAPS = 1 << 4
SECBIT_KEEP_CAPS_LOCKED = 1 << 5
SECBIT_NO_CAP_AMBIENT_RAISE = 1 << 6
SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7

_prctl = by_number("prctl", 5)


def prctl(option: int, arg2: object = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Carry out `option` as it stands in linux/prctl.h.

    Raises:
      OSError: EINVAL, this kernel does not know the option, or a wrong value; EPERM, not allowed.
    """
    return check(_prctl(option, arg2, arg3, arg4, arg5), f"prctl({option})")


def set_pdeathsig(signal: int) -> None:
    """Have the kernel send us `signal` when our parent *thread* ends; 0 for none.

    Forgotten at fork and at a set-uid execve; set it after changing credentials, which resets it.
    """
    prctl(1, signal)


def get_pdeathsig() -> int:
    """Return the parent-death signal, 0 for none."""
    slot = ctypes.c_int()
    prctl(2, ctypes.byref(slot))
    return slot.value


def get_dumpable() -> int:
    """Return 1 for dumpable, 0 for not, 2 for root only."""
    return prctl(3)


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid core dumps, ptrace by equals, and ownership of our own /proc/PID."""
    prctl(4, int(dumpable))


def get_keepcaps() -> bool:
    """Return whether permitted capabilities survive leaving uid 0."""
    return bool(prctl(7))


def set_keepcaps(keep: bool) -> None:
    """Keep the permitted capabilities when the uids change from 0; cleared by execve."""
    prctl(8, int(keep))


def set_name(name: str | bytes) -> None:
    """Set the calling thread's name as ps -o comm shows it, cut after 15 bytes."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    prctl(15, raw[:15] + b"\0")


def get_name() -> bytes:
    """Return the calling thread's name."""
    buffer = ctypes.create_string_buffer(16)
    prctl(16, buffer)
    return buffer.value


def get_securebits() -> int:
    """Return the SECBIT_ flags of the calling thread."""
    return prctl(27)


def set_securebits(bits: int) -> None:
    """Set the SECBIT_ flags; needs CAP_SETPCAP."""
    prctl(28, bits)


def set_timerslack(nanoseconds: int) -> None:
    """Set how late timers of this thread may fire; 0 restores the default it was born with."""
    prctl(29, nanoseconds)


def get_timerslack() -> int:
    """Return the timer slack in nanoseconds."""
    return prctl(30)


def set_child_subreaper(subreaper: bool) -> None:
    """Adopt, or no longer adopt, orphaned descendants; not inherited by fork."""
    prctl(36, int(subreaper))


def get_child_subreaper() -> bool:
    """Return whether this process adopts orphaned descendants."""
    slot = ctypes.c_int()
    prctl(37, ctypes.byref(slot))
    return bool(slot.value)


def set_no_new_privs() -> None:
    """Give up gaining privileges by execve for ever, for us and all our children."""
    prctl(38, 1)


def get_no_new_privs() -> bool:
    """Return whether execve may no longer grant privileges."""
    return bool(prctl(39))


def set_io_flusher(flusher: bool) -> None:
    """Mark the process as part of writing memory back to disk; needs CAP_SYS_RESOURCE."""
    prctl(57, int(flusher))
