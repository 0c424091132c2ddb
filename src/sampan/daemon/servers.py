"""The daemon's sockets: who may connect is decided by the folder and the file's mode.

    <address>          gRPC, mode 0660; made by us, or given by systemd (socket activation)
    <ttrpc>            ttrpc: Events.Forward, mode 0660
    host:port          gRPC once more, only where the configuration says so, with TLS or without

A socket left by a daemon that died is replaced; one that somebody still serves is an error.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from grpclib.server import Server

from sampan.daemon.http import split_address
from sampan.engine.schema import Listener, TcpListener
from sampan.errors import FailedPrecondition, InvalidArgument

__all__ = ["activated", "bind", "serving", "tcp"]

_PATH_MAX = 107
_GRACE_S = 2.0
_BACKLOG = 128


def bind(path: Path, listener: Listener | None = None) -> socket.socket:
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
        if listener is not None and (listener.uid, listener.gid) != (0, 0):
            os.chown(path, listener.uid, listener.gid)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def activated(fds: Sequence[int], path: Path) -> socket.socket | None:
    """Return the socket that systemd listens on for us, owned by the caller; the others are closed.

    Of several, it is the one bound to `path`; one alone is taken whatever its path.

    Raises:
      InvalidArgument: there are several, and none is bound to `path`.
    """
    found = [socket.socket(fileno=fd) for fd in fds]
    streams = [
        one
        for one in found
        if one.family == socket.AF_UNIX
        and one.type == socket.SOCK_STREAM
        and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ]
    named = [one for one in streams if one.getsockname() == os.fspath(path)]
    chosen = named[0] if named else streams[0] if len(streams) == 1 else None
    for one in found:
        if one is not chosen:
            one.close()
    if chosen is None and found:
        raise InvalidArgument(
            f"none of the {len(found)} sockets that were passed to us (LISTEN_FDS) is a unix socket"
            f" bound to {path}: see ListenStream= of the socket unit"
        )
    if chosen is not None:
        chosen.setblocking(False)
    return chosen


@asynccontextmanager
async def serving(
    sock: socket.socket,
    handlers: Sequence[Any],
    prepare: Callable[[Server, Sequence[Any]], None] = lambda server, handlers: None,
) -> AsyncIterator[Server]:
    """Serve gRPC `handlers` on `sock` inside the block; then calls get a moment to end.

    `prepare` may listen to the server's events before it starts.
    """
    server = Server(handlers)
    prepare(server, handlers)
    await server.start(sock=sock)
    async with _ending(server):
        yield server


@asynccontextmanager
async def tcp(
    listener: TcpListener,
    handlers: Sequence[Any],
    prepare: Callable[[Server, Sequence[Any]], None] = lambda server, handlers: None,
) -> AsyncIterator[None]:
    """Serve them over TCP, too, if the listener has an address.

    Raises:
      InvalidArgument: the address is malformed, or the certificate cannot be read.
      FailedPrecondition: the address is in use.
    """
    if not listener.address:
        yield
        return
    path, host, port = split_address(listener.address)
    if path:
        raise InvalidArgument(f"address {listener.address!r} of gRPC over TCP is no host:port")
    server = Server(handlers)
    prepare(server, handlers)
    try:
        await server.start(host, port, ssl=_tls(listener))
    except OSError as err:
        raise FailedPrecondition(f"cannot serve {listener.address}: {err.strerror}") from err
    async with _ending(server):
        yield


def _tls(listener: TcpListener) -> ssl.SSLContext | None:
    """Return what the listener's files amount to; with a CA, clients must have its certificate."""
    if not listener.tls_cert and not listener.tls_key and not listener.tls_ca:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(listener.tls_cert, listener.tls_key or None)
        if listener.tls_ca:
            context.load_verify_locations(listener.tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as err:
        raise InvalidArgument(
            f"TLS of {listener.address}: {listener.tls_cert}, {listener.tls_key} or"
            f" {listener.tls_ca} is unusable: {err}"
        ) from err
    return context


@asynccontextmanager
async def _ending(server: Server) -> AsyncIterator[None]:
    try:
        yield
    finally:
        server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await server.wait_closed()
