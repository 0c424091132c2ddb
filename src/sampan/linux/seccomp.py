"""seccomp(2): loading a ready filter. Compiling one is somebody else's work."""

from __future__ import annotations

import ctypes
import struct

from sampan.linux._libc import by_number, check

__all__ = [
    "FLAG_LOG",
    "FLAG_NEW_LISTENER",
    "FLAG_SPEC_ALLOW",
    "FLAG_TSYNC",
    "FLAG_TSYNC_ESRCH",
    "FLAG_WAIT_KILLABLE_RECV",
    "action_available",
    "load",
]

FLAG_TSYNC = 1
FLAG_LOG = 2
FLAG_SPEC_ALLOW = 4
FLAG_NEW_LISTENER = 8
FLAG_TSYNC_ESRCH = 16
FLAG_WAIT_KILLABLE_RECV = 32

_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_seccomp = by_number("seccomp", 3)


def load(program: bytes, flags: int = 0) -> int:
    """Put a filter on the calling thread, for ever and for all that it starts.

    Args:
      program: Instructions of classic BPF, `struct sock_filter`, 8 bytes each.
      flags: FLAG_*.

    Returns:
      With FLAG_NEW_LISTENER an fd (CLOEXEC), which the caller owns; else 0.

    Raises:
      OSError: EACCES, neither CAP_SYS_ADMIN nor no_new_privs; EINVAL, the program is malformed or
        a flag unknown; EBUSY, there is a listener already; ENOMEM, filters too long together.

    Source: seccomp(2).
    """
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code))
    return check(_seccomp(_SET_MODE_FILTER, flags, fprog), "seccomp")


def action_available(action: int) -> bool:
    """Return whether the kernel knows a SECCOMP_RET_* action. Source: seccomp(2), Linux 4.14."""
    return _seccomp(_GET_ACTION_AVAIL, 0, struct.pack("=I", action)) == 0
