"""A ttrpc client on `loop`: a shim's way to its daemon, which may be away for hours."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from sampan.errors import SampanError, Unavailable
from sampan.linux.fds import unix_connect
from sampan.rpc.client import pack_request, unpack_response
from sampan.rpc.frames import RESPONSE, FrameReader
from sampan.rpc.loop import ERR, HUP, IN, OUT, Future, Loop
from sampan.rpc.wire import DecodeError, Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _M = TypeVar("_M", bound=Message)

__all__ = ["Link"]


class Link:
    """One connection to the socket at `path`, made when first needed and again after a loss."""

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop = loop
        self._path = path.removeprefix("unix://")
        self._socket: socket.socket | None = None
        self._reader = FrameReader()
        self._out = bytearray()
        self._next = 1
        self._pending: dict[int, tuple[Future[Any], type[Message]]] = {}

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        answer: type[_M],
        *,
        timeout_s: float,
        metadata: Mapping[str, str] | None = None,
    ) -> _M:
        """Call and wait.

        Raises:
          SampanError: the server's answer; Unavailable when it is away; DeadlineExceeded, after
            which the connection is dropped.
        """
        if self._socket is None:
            self._connect()
        stream, self._next = self._next, self._next + 2
        future: Future[_M] = Future()
        self._pending[stream] = (future, answer)
        self._out += pack_request(stream, service, method, request, timeout_s, metadata)
        self._flush()
        try:
            return await self._loop.within(future, timeout_s, f"ttrpc: {service}/{method}")
        finally:
            if self._pending.pop(stream, None) is not None:
                self.close()

    def _connect(self) -> None:
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            unix_connect(sock, self._path)
        except OSError as err:
            sock.close()
            why = errno.errorcode.get(err.errno or 0, "?")
            raise Unavailable(f"ttrpc: connect {self._path}: {why}") from err
        self._socket = sock
        self._reader = FrameReader()
        self._out.clear()
        self._next = 1

    def _flush(self) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            while self._out:
                del self._out[: sock.send(bytes(self._out))]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._loop.watch(sock.fileno(), IN | (OUT if self._out else 0), self._ready)

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if self._socket is None or not events & (IN | ERR | HUP):
            return
        try:
            data = self._socket.recv(16 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for frame in self._reader.feed(data):
                if frame.type == RESPONSE and frame.stream in self._pending:
                    future, answer = self._pending.pop(frame.stream)
                    try:
                        future.set(unpack_response(frame.data, answer))
                    except SampanError as error:
                        future.fail(error)
        except DecodeError:
            self.close()

    def close(self) -> None:
        """Close the connection; calls under way fail with Unavailable. The next call connects."""
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            future.fail(Unavailable(f"ttrpc: {self._path}: the peer has hung up"))
