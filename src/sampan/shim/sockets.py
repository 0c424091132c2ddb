"""Where a shim listens."""

from __future__ import annotations

import _socket
import errno
import os

from sampan.linux.fds import unix_bind, unix_connect

__all__ = ["alive", "bind"]


def bind(path: str) -> _socket.socket:
    """Listen at `path`, in a folder made 0700; a socket there of which nobody hears is replaced.

    Raises:
      OSError: EADDRINUSE, a live shim listens there.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    listener = _new()
    try:
        try:
            unix_bind(listener, path)
        except OSError as err:
            if err.errno != errno.EADDRINUSE or alive(path):
                raise
            os.unlink(path)
            unix_bind(listener, path)
        os.chmod(path, 0o600)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def alive(path: str) -> bool:
    """Tell whether somebody listens at `path`."""
    probe = _new()
    try:
        unix_connect(probe, path)
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _new() -> _socket.socket:
    # Without `socket`, whose import costs a cold start 5 ms.
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
