"""systemd's readiness protocol. Source: sd_notify(3), sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

__all__ = ["listen_fds", "notify"]

_FIRST_FD = 3


def notify(environ: Mapping[str, str], text: str) -> bool:
    """Send `text`, such as "READY=1", to the manager; False when there is none.

    A manager that cannot be reached is no reason to stop: the error is swallowed.
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if not path or path[0] not in "/@":
        return False
    address = "\0" + path[1:] if path[0] == "@" else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(text.encode(), address)
        except OSError:
            return False
    return True


def listen_fds(environ: Mapping[str, str], pid: int) -> list[int]:
    """Return the fds of socket activation, made close-on-exec; none if they are for another pid."""
    if environ.get("LISTEN_PID") != str(pid) or not environ.get("LISTEN_FDS", "").isdecimal():
        return []
    fds = list(range(_FIRST_FD, _FIRST_FD + int(environ["LISTEN_FDS"])))
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds
