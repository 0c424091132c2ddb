"""The daemon's sockets: who may connect is decided by the folder and the file's mode.

    <address>          gRPC, mode 0660
    <address>.ttrpc    ttrpc: Events.Forward, mode 0660

A socket left by a daemon that died is replaced; one that somebody still serves is an error.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from grpclib.server import Server

from sampan.errors import FailedPrecondition, InvalidArgument

__all__ = ["bind", "serving"]

_PATH_MAX = 107
_GRACE_S = 2.0


def bind(path: Path) -> socket.socket:
    """Return a listening socket at `path`, owned by the caller; missing folders are made 0711.

    Raises:
      InvalidArgument: the path is longer than the 107 bytes of an AF_UNIX address.
      FailedPrecondition: another process serves there.
    """
    if len(os.fsencode(path)) > _PATH_MAX:
        raise InvalidArgument(
            f"socket path {path} is longer than {_PATH_MAX} bytes: choose a shorter"
        )
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect(os.fspath(path))
        raise FailedPrecondition(f"another process serves {path}: stop it, or choose --address")
    with suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(os.fspath(path))
        path.chmod(0o660)
        sock.listen(128)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def serving(sock: socket.socket, handlers: Sequence[Any]) -> AsyncIterator[Server]:
    """Serve gRPC `handlers` on `sock` inside the block; then calls get a moment to end."""
    server = Server(handlers)
    await server.start(sock=sock)
    try:
        yield server
    finally:
        server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await server.wait_closed()
