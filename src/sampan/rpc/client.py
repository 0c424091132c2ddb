"""A blocking ttrpc client, for tests and command lines: one call at a time.

with Client.connect("/run/containerd/s/ab12") as shim:
    state = shim.call(SERVICE, "State", StateRequest(id="c1"), StateResponse, timeout_s=5)
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from sampan.errors import DeadlineExceeded, Unavailable
from sampan.linux.fds import unix_connect
from sampan.rpc.frames import REMOTE_CLOSED, REQUEST, RESPONSE, FrameReader, Oversized, pack_frame
from sampan.rpc.messages.wellknown import KeyValue, Request, Response
from sampan.rpc.status import from_status
from sampan.rpc.wire import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TypeVar

    _M = TypeVar("_M", bound=Message)

__all__ = ["Client", "pack_request", "unpack_response"]


def pack_request(
    stream: int,
    service: str,
    method: str,
    request: Message,
    timeout_s: float | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return the frame that opens a unary call.

    Raises:
      ResourceExhausted: the request is longer than 4 MiB.
    """
    body = Request(
        service=service,
        method=method,
        payload=bytes(request),
        timeout_nano=0 if timeout_s is None else max(1, int(timeout_s * 1e9)),
        metadata=[KeyValue(key=key, value=value) for key, value in (metadata or {}).items()],
    )
    return pack_frame(stream, REQUEST, REMOTE_CLOSED, bytes(body))


def unpack_response(data: bytes, answer: type[_M]) -> _M:
    """Return the answer in the data of a RESPONSE frame.

    Raises:
      SampanError: what the peer's status says.
      DecodeError: the data are malformed.
    """
    response = Response.decode(data)
    if response.status is not None and response.status.code:
        raise from_status(response.status.code, response.status.message)
    return answer.decode(response.payload)


class Client:
    """Owns its connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = FrameReader()
        self._next = 1

    @classmethod
    def connect(cls, path: str, timeout_s: float = 5.0) -> Self:
        """Connect to a pathname socket, of any length; `unix://` before it is dropped.

        Raises:
          OSError: nobody listens there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(timeout_s)
        try:
            unix_connect(sock, path.removeprefix("unix://"))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        answer: type[_M],
        *,
        timeout_s: float | None = 10.0,
        metadata: Mapping[str, str] | None = None,
    ) -> _M:
        """Call and wait; the deadline goes to the server, too.

        Raises:
          SampanError: the server's answer; Unavailable when it hangs up; DeadlineExceeded.
        """
        stream = self.begin(service, method, request, timeout_s=timeout_s, metadata=metadata)
        return self.finish(stream, answer, timeout_s=None if timeout_s is None else timeout_s + 1)

    def begin(
        self,
        service: str,
        method: str,
        request: Message,
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Send a call and return its stream, for `finish`."""
        stream, self._next = self._next, self._next + 2
        data = pack_request(stream, service, method, request, timeout_s, metadata)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(data)
        except OSError as err:
            raise Unavailable(f"ttrpc: {service}/{method}: {err.strerror or err}") from err
        return stream

    def finish(self, stream: int, answer: type[_M], *, timeout_s: float | None) -> _M:
        """Wait for the answer of `stream`; answers of earlier streams are dropped.

        Raises:
          SampanError: as `call`.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._socket.settimeout(None if end is None else max(0.001, end - time.monotonic()))
            try:
                data = self._socket.recv(64 << 10)
            except TimeoutError as err:
                raise DeadlineExceeded(f"ttrpc: no answer after {timeout_s:g} s") from err
            except OSError as err:
                raise Unavailable(f"ttrpc: {err.strerror or err}") from err
            if not data:
                raise Unavailable("ttrpc: the peer has hung up")
            for frame in self._reader.feed(data):
                if frame.stream != stream or frame.type != RESPONSE:
                    continue
                if isinstance(frame, Oversized):
                    raise from_status(8, f"answer of {frame.size_bytes} bytes is too long")
                return unpack_response(frame.data, answer)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
