"""Session keyrings: a container's processes must not find their caller's keys.

Source: keyctl(2).
"""

from __future__ import annotations

import ctypes
import os

from sampan.linux._libc import by_number, check

__all__ = [
    "KEY_SPEC_SESSION_KEYRING",
    "add_key",
    "describe",
    "join_session",
    "serial",
    "set_permissions",
]

KEY_SPEC_SESSION_KEYRING = -3
_GET_ID, _JOIN, _SETPERM, _DESCRIBE = 0, 1, 5, 6

_keyctl = by_number("keyctl", 5)
_add_key = by_number("add_key", 5)


def join_session(name: str | None = None) -> int:
    """Join the session keyring `name`, made if need be, or a fresh nameless one; return its serial.

    Raises:
      OSError: EDQUOT, the user's quota of keys is used up; ENOSYS, the kernel has no keys.
    """
    raw = None if name is None else os.fsencode(name)
    return check(_keyctl(_JOIN, raw, 0, 0, 0), "keyctl(JOIN_SESSION_KEYRING)")


def serial(keyring: int = KEY_SPEC_SESSION_KEYRING) -> int:
    """Return the serial number that a KEY_SPEC_* stands for; makes none.

    Raises:
      OSError: ENOKEY, there is none.
    """
    return check(_keyctl(_GET_ID, keyring, 0, 0, 0), "keyctl(GET_KEYRING_ID)")


def describe(key: int) -> tuple[str, int, int, int, str]:
    """Return `(type, uid, gid, permissions, description)` of a key."""
    buffer = ctypes.create_string_buffer(4096)
    check(_keyctl(_DESCRIBE, key, buffer, len(buffer), 0), "keyctl(DESCRIBE)")
    kind, uid, gid, permissions, text = os.fsdecode(buffer.value).split(";", 4)
    return kind, int(uid), int(gid), int(permissions, 16), text


def set_permissions(key: int, *, mask: int = 0xFFFFFFFF, add: int = 0) -> None:
    """Keep the permissions in `mask` and add others; nibbles are possessor, user, group, other.

    Raises:
      OSError: EACCES, not the owner, and no CAP_SYS_ADMIN.
    """
    permissions = describe(key)[3] & mask | add
    check(_keyctl(_SETPERM, key, permissions, 0, 0), "keyctl(SETPERM)")


def add_key(kind: str, name: str, payload: bytes, keyring: int = KEY_SPEC_SESSION_KEYRING) -> int:
    """Add a key to a keyring and return its serial."""
    result = _add_key(os.fsencode(kind), os.fsencode(name), payload, len(payload), keyring)
    return check(result, "add_key", name)
