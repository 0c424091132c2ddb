"""HTTP/1.1, as little of it as a scraper and `curl --unix-socket` need: GET, one answer, close.

The daemon's metrics and debug sockets are read by one client every few seconds; a web framework
would cost 10 MB of memory for that.

Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sampan.errors import FailedPrecondition, InvalidArgument

__all__ = ["Answer", "Route", "serving_http", "split_address"]

log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 16 << 10
_DEADLINE_S: Final = 30.0
_GRACE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route returns."""

    body: bytes
    type: str = "text/plain; charset=utf-8"


Route = Callable[[], Awaitable[Answer]]


@asynccontextmanager
async def serving_http(
    address: str, routes: Mapping[str, Route], *, uid: int = -1, gid: int = -1
) -> AsyncIterator[None]:
    """Serve the routes inside the block.

    Args:
      address: `host:port`, or the path of a unix socket, which is made 0660.
      routes: By path.
      uid: Owner of the socket; -1 is ours.
      gid: Its group.

    Raises:
      InvalidArgument: the address is neither.
      FailedPrecondition: it is in use.
    """
    clients: set[asyncio.Task[Any]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            clients.add(task)
            task.add_done_callback(clients.discard)
        try:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(_DEADLINE_S):
                    writer.write(await _answer(reader, routes))
                    await writer.drain()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    path, host, port = split_address(address)
    try:
        if path:
            _unlink_dead(Path(path))
            server = await asyncio.start_unix_server(client, path, limit=_HEAD_BYTES)
            os.chmod(path, 0o660)
            os.chown(path, uid, gid)
        else:
            server = await asyncio.start_server(client, host, port, limit=_HEAD_BYTES)
    except OSError as err:
        raise FailedPrecondition(f"cannot serve {address}: {err.strerror or err}") from err
    async with server:
        yield
    if clients:
        _, late = await asyncio.wait(clients, timeout=_GRACE_S)
        for task in late:
            task.cancel()
    if path:
        with suppress(FileNotFoundError):
            os.unlink(path)


def split_address(address: str) -> tuple[str, str, int]:
    """Return path, host and port of `host:port`, `[::1]:port`, `unix:///path` or `/path`.

    Raises:
      InvalidArgument: it is none of these.
    """
    text = address.removeprefix("unix://").removeprefix("tcp://")
    if text.startswith("/"):
        return text, "", 0
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 0xFFFF:
        raise InvalidArgument(f"address {address!r} is neither host:port nor a path")
    return "", host.strip("[]"), int(port)


def _unlink_dead(path: Path) -> None:
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


async def _answer(reader: asyncio.StreamReader, routes: Mapping[str, Route]) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return _encoded("400 Bad Request", Answer(b"not a request\n"))
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _encoded("400 Bad Request", Answer(b"not a request\n"))
    if words[0] not in (b"GET", b"HEAD"):
        return _encoded("405 Method Not Allowed", Answer(b"only GET\n"))
    route = routes.get(words[1].decode("latin-1").partition("?")[0])
    if route is None:
        known = "".join(f"{one}\n" for one in sorted(routes))
        return _encoded("404 Not Found", Answer(f"not here; try\n{known}".encode()))
    try:
        answer = await route()
    except Exception:  # this socket's edge
        log.exception("answer failed: path=%s", words[1])
        return _encoded("500 Internal Server Error", Answer(b"see the log\n"))
    whole = _encoded("200 OK", answer)
    return whole if words[0] == b"GET" else whole[: len(whole) - len(answer.body)]


def _encoded(status: str, answer: Answer) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {answer.type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + answer.body
