"""Connecting a client's stream to a TCP port inside a pod.

A socket belongs to the network namespace of the thread that made it, for ever. So only `socket()`
happens inside: in a thread that is started for it, enters the namespace, and ends; see
`linux.netsocket`. Connecting and everything else is done by the event loop, as for any socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from pathlib import Path

from sampan.cri.streaming import CHUNK_BYTES, Duplex
from sampan.errors import NotFound, Unavailable
from sampan.linux.netsocket import socket_in

__all__ = ["connect_port", "forward_port"]

_CONNECT_S = 10.0
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def forward_port(netns: str | Path | None, port: int, stream: Duplex) -> None:
    """Connect `stream` to `port` on the loopback of a network namespace, both ways.

    Returns when both directions have ended; each is half-closed on its own. Cancelled, it closes
    the connection.

    Args:
      netns: A path of the namespace; None is our own.
      port: TCP; IPv4 is tried first, then IPv6.
      stream: The client.

    Raises:
      NotFound: There is no such namespace.
      Unavailable: Nobody listens there, or does not accept in time.
      ConnectionError: The connection broke.
    """
    with await connect_port(netns, port) as sock:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_outwards(sock, stream))
                group.create_task(_inwards(stream, sock))
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None


async def connect_port(netns: str | Path | None, port: int) -> socket.socket:
    """Return a connected, non-blocking socket, which the caller closes; raises as above."""
    loop = asyncio.get_running_loop()
    refused: OSError | None = None
    for family, address in _LOOPBACK:
        try:
            sock = socket_in(netns, family, socket.SOCK_STREAM)
        except FileNotFoundError as err:
            raise NotFound(f"port {port}: there is no network namespace {netns}") from err
        except OSError as err:
            if err.errno == errno.EAFNOSUPPORT:
                continue
            raise Unavailable(f"port {port}: entering namespace {netns}: {err}") from err
        try:
            sock.setblocking(False)
            async with asyncio.timeout(_CONNECT_S):
                await loop.sock_connect(sock, (address, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as err:
            sock.close()
            refused = refused or err
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    if refused is None:
        why = "neither IPv4 nor IPv6 there"
    else:
        why = os.strerror(refused.errno) if refused.errno else "no answer in time"
    raise Unavailable(f"connect to port {port} inside the pod: {why}") from refused


async def _outwards(sock: socket.socket, stream: Duplex) -> None:
    """From the pod to the client."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, 2 * CHUNK_BYTES):
        await stream.write(data)
    await stream.close()


async def _inwards(stream: Duplex, sock: socket.socket) -> None:
    """From the client to the pod."""
    loop = asyncio.get_running_loop()
    while data := await stream.read():
        await loop.sock_sendall(sock, data)
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
