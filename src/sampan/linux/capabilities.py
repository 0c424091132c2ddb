"""Capabilities: their names, and the five sets of a thread.

A set is an int in which capability n is bit n.
"""

from __future__ import annotations

import ctypes
import struct

from sampan.linux._libc import by_number, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "NAMES",
    "NUMBERS",
    "ambient_clear",
    "ambient_has",
    "ambient_raise",
    "bounding",
    "bounding_drop",
    "bounding_has",
    "capget",
    "capset",
    "last_cap",
    "names_of",
    "set_of",
]

_WORDS = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
NAMES: tuple[str, ...] = tuple("CAP_" + word for word in _WORDS.split())
"""Names by number, as in config.json. Source: linux/capability.h, to Linux 6.18."""

NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = struct.pack("=Ii", 0x20080522, 0)
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 23, 24, 47
_AMBIENT_IS_SET, _AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 1, 2, 4

_capget = by_number("capget", 2)
_capset = by_number("capset", 2)
_prctl = by_number("prctl", 5)


def last_cap() -> int:
    """Return the highest capability that this kernel knows."""
    number = 63
    while number and _prctl(_PR_CAPBSET_READ, number, 0, 0, 0) < 0:
        number -= 1
    return number


def set_of(names: Iterable[str]) -> int:
    """Return the set of the named capabilities.

    Raises:
      KeyError: A name is not in `NAMES`.
    """
    caps = 0
    for name in names:
        caps |= 1 << NUMBERS[name]
    return caps


def names_of(caps: int) -> list[str]:
    """Return the names in a set, by number; capabilities newer than `NAMES` are left out."""
    return [name for number, name in enumerate(NAMES) if caps >> number & 1]


def capget() -> tuple[int, int, int]:
    """Get the calling thread's `(effective, permitted, inheritable)` sets.

    Source: capget, section 2 of the manual.
    """
    data = ctypes.create_string_buffer(24)
    check(_capget(_VERSION_3, data), "capget")
    low = struct.unpack_from("=3I", data.raw, 0)
    high = struct.unpack_from("=3I", data.raw, 12)
    effective, permitted, inheritable = (a | b << 32 for a, b in zip(low, high, strict=True))
    return effective, permitted, inheritable


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Change the calling thread's sets; ambient capabilities that no longer fit are lost.

    Raises:
      OSError: EPERM, a set would gain what the thread does not have.

    Source: capset(2).
    """
    sets = (effective, permitted, inheritable)
    data = struct.pack("=6I", *(s & 0xFFFFFFFF for s in sets), *(s >> 32 for s in sets))
    check(_capset(_VERSION_3, data), "capset")


def bounding_has(number: int) -> bool:
    """Return whether capability `number` is in the bounding set; False if the kernel lacks it."""
    return _prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1


def bounding() -> int:
    """Return the bounding set."""
    return sum(1 << number for number in range(last_cap() + 1) if bounding_has(number))


def bounding_drop(keep: int) -> None:
    """Drop every capability from the bounding set but those in `keep`; needs CAP_SETPCAP."""
    for number in range(last_cap() + 1):
        if not keep >> number & 1 and bounding_has(number):
            check(_prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), f"prctl(PR_CAPBSET_DROP, {number})")


def ambient_clear() -> None:
    """Empty the ambient set."""
    check(_prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT)")


def ambient_raise(number: int) -> None:
    """Add a capability, which must be permitted and inheritable, to the ambient set.

    Raises:
      OSError: EPERM, it is not, or SECBIT_NO_CAP_AMBIENT_RAISE is set; EINVAL, unknown.
    """
    check(_prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number, 0, 0), f"prctl(PR_CAP_AMBIENT, {number})")


def ambient_has(number: int) -> bool:
    """Return whether a capability is in the ambient set."""
    return _prctl(_PR_CAP_AMBIENT, _AMBIENT_IS_SET, number, 0, 0) == 1
