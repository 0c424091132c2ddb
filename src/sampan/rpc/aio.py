"""ttrpc on asyncio, for the daemon's side: a client of shims, and the server that shims publish to.

    shim = await connect("/run/containerd/s/ab12")
    state = await shim.call(SERVICE, "State", StateRequest(id="c1"), StateResponse, timeout_s=5)
    shim.close()

A call that is cancelled, or whose deadline ends, is forgotten: ttrpc has no word for giving up, the
late answer is dropped, and the server has its own copy of the deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from sampan.errors import (
    DeadlineExceeded,
    ResourceExhausted,
    SampanError,
    Unavailable,
    Unimplemented,
)
from sampan.linux.fds import unix_bind, unix_connect
from sampan.rpc.client import pack_request, unpack_response
from sampan.rpc.frames import (
    DATA,
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    REQUEST,
    RESPONSE,
    Frame,
    FrameReader,
    Oversized,
    pack_frame,
)
from sampan.rpc.messages.wellknown import KeyValue, Request, Response, Status
from sampan.rpc.status import code_of, text_of
from sampan.rpc.wire import DecodeError, Message

__all__ = ["Connection", "Handler", "Server", "Stream", "connect"]

log = logging.getLogger(__name__)

_M = TypeVar("_M", bound=Message)
_QUEUE_MAX = 256

Handler = Callable[[Any, Mapping[str, str]], Awaitable[Message]]
"""`await handler(request, metadata)` returns the answer, or raises a SampanError."""


async def connect(path: str, timeout_s: float = 5.0) -> Connection:
    """Connect to a pathname socket of any length; `unix://` before it is dropped.

    Raises:
      Unavailable: nobody listens there, or it does not accept in time.
    """
    sock = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    unix_connect(sock, path.removeprefix("unix://"))
                    break
                except BlockingIOError:  # the listener's queue is full
                    await asyncio.sleep(0.01)
        return await Connection.over(sock)
    except TimeoutError as err:
        sock.close()
        raise Unavailable(f"ttrpc: connect {path}: no answer after {timeout_s:g} s") from err
    except OSError as err:
        sock.close()
        raise Unavailable(f"ttrpc: connect {path}: {err.strerror}") from err
    except BaseException:
        sock.close()
        raise


class Stream:
    """A streaming call: `send` messages, iterate over those that come, or `receive` them."""

    def __init__(self, connection: Connection, number: int, answer: type[Message]) -> None:
        self._connection = connection
        self._number = number
        self._answer = answer
        self._queue: asyncio.Queue[Message | BaseException | None] = asyncio.Queue(_QUEUE_MAX)
        self._over = False

    def push(self, item: Message | BaseException | None) -> None:
        """Called by the connection; a stream whose reader is 256 messages behind is given up."""
        if self._over:
            return
        if self._queue.full() and item is not None:
            self._queue.get_nowait()
            item = ResourceExhausted("ttrpc: the reader of a stream is too slow")
        if isinstance(item, BaseException):
            self._over = True
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(item)

    async def send(self, item: Message) -> None:
        """Send one message; waits while the connection is congested."""
        await self._connection.write(pack_frame(self._number, DATA, 0, bytes(item)))

    async def close_send(self) -> None:
        """Say that no more messages will be sent."""
        await self._connection.write(pack_frame(self._number, DATA, REMOTE_CLOSED | NO_DATA, b""))

    async def receive(self) -> Message | None:
        """Return the next message; None at the end.

        Raises:
          SampanError: the status that ended the stream.
        """
        item = await self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def decode(self, data: bytes) -> Message:
        """Return a message of this stream."""
        return self._answer.decode(data)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (item := await self.receive()) is not None:
            yield item

    def close(self) -> None:
        """Forget the stream."""
        self._connection.forget(self._number)


class Connection:
    """A client's connection, shared by any number of calls; owns its socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()
        self._next = 1
        self._calls: dict[int, tuple[asyncio.Future[Any], type[Message]]] = {}
        self._streams: dict[int, Stream] = {}
        self.closed = asyncio.get_running_loop().create_future()
        """Done when the connection has ended, from either side: the shim is gone."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="ttrpc connection")

    @classmethod
    async def over(cls, sock: socket.socket) -> Connection:
        """Speak over a connected socket, which becomes ours."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        return cls(reader, writer)

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        answer: type[_M],
        *,
        timeout_s: float | None = 10.0,
        metadata: Mapping[str, str] | None = None,
    ) -> _M:
        """Call and wait; None waits for ever, as Task.Wait should.

        Raises:
          SampanError: the server's answer; Unavailable when it hangs up; DeadlineExceeded.
        """
        stream = self._open(service, method)
        future: asyncio.Future[_M] = asyncio.get_running_loop().create_future()
        self._calls[stream] = (future, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await self.write(
                    pack_request(stream, service, method, request, timeout_s, metadata)
                )
                return await future
        except TimeoutError as err:
            raise DeadlineExceeded(
                f"ttrpc: {service}/{method}: no answer after {timeout_s:g} s"
            ) from err
        finally:
            self._calls.pop(stream, None)

    async def stream(
        self,
        service: str,
        method: str,
        answer: type[Message],
        request: Message | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> Stream:
        """Open a streaming call: with `request` only the server streams, without it both may."""
        number = self._open(service, method)
        stream = Stream(self, number, answer)
        self._streams[number] = stream
        body = Request(
            service=service,
            method=method,
            payload=b"" if request is None else bytes(request),
            metadata=[KeyValue(key=key, value=value) for key, value in (metadata or {}).items()],
        )
        flags = REMOTE_OPEN if request is None else REMOTE_CLOSED
        await self.write(pack_frame(number, REQUEST, flags, bytes(body)))
        return stream

    def _open(self, service: str, method: str) -> int:
        if self.closed.done():
            raise Unavailable(f"ttrpc: {service}/{method}: the peer has hung up")
        stream, self._next = self._next, self._next + 2
        return stream

    async def write(self, data: bytes) -> None:
        """Send; waits while more than the transport's high-water mark is unsent."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as err:
            why = f"ttrpc: the peer has hung up: {err}"
            self._end(why)
            raise Unavailable(why) from err

    def forget(self, number: int) -> None:
        """Drop what still comes for a stream."""
        self._streams.pop(number, None)

    async def _run(self) -> None:
        why = "ttrpc: the peer has hung up"
        try:
            while data := await self._reader.read(64 << 10):
                for frame in self._frames.feed(data):
                    self._frame(frame)
        except (OSError, DecodeError) as err:
            why = f"ttrpc: connection lost: {err}"
        finally:
            self._end(why)

    def _frame(self, frame: Frame) -> None:
        error: SampanError | None = None
        if isinstance(frame, Oversized):
            error = ResourceExhausted(f"ttrpc: answer of {frame.size_bytes} bytes is too long")
        if call := self._calls.get(frame.stream):
            future, answer = call
            if future.done():
                return
            try:
                if error is not None:
                    raise error
                future.set_result(unpack_response(frame.data, answer))
            except SampanError as err:
                future.set_exception(err)
        elif stream := self._streams.get(frame.stream):
            self._stream_frame(stream, frame, error)

    def _stream_frame(self, stream: Stream, frame: Frame, error: SampanError | None) -> None:
        try:
            if error is not None:
                raise error
            if frame.type == DATA:
                if not frame.flags & NO_DATA:
                    stream.push(stream.decode(frame.data))
                if not frame.flags & REMOTE_CLOSED:
                    return
            else:
                unpack_response(frame.data, Message)
            stream.push(None)
        except SampanError as err:
            stream.push(err)
        self._streams.pop(frame.stream, None)

    def _end(self, why: str) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._writer.close()
        for future, _ in self._calls.values():
            if not future.done():
                future.set_exception(Unavailable(why))
        for stream in self._streams.values():
            stream.push(Unavailable(why))
        self._streams.clear()

    def close(self) -> None:
        """Close; calls under way fail with Unavailable."""
        self._task.cancel()
        self._end("ttrpc: the connection was closed")

    async def wait_closed(self) -> None:
        """Close, and wait until the socket is."""
        self.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            log.debug("ttrpc: closing a broken connection")


class Server:
    """Unary methods on a pathname socket: the daemon's `.ttrpc`, where shims publish events.

    `services` maps service to method to (request type, handler).
    """

    def __init__(self, services: Mapping[str, Mapping[str, tuple[type[Message], Handler]]]) -> None:
        self._services = services
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, path: str) -> None:
        """Bind `path`, whose folder must be 0700 and ours; a dead socket there is replaced."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            unix_bind(sock, path)
            sock.listen(1024)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        self._server = await asyncio.start_unix_server(self._accepted, sock=sock)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._tasks.add(task)
        try:
            raw = writer.get_extra_info("socket").getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, 12
            )
            if struct.unpack("=iII", raw)[1] in (0, os.geteuid()):
                await self._serve(reader, writer)
        except (OSError, DecodeError) as err:
            log.debug("ttrpc: connection lost: %s", err)
        except asyncio.CancelledError:
            log.debug("ttrpc: connection closed by us")
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection that somebody else has made, until its end; does not close it."""
        await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        async with asyncio.TaskGroup() as calls:
            # Caught here, inside: what leaves a group comes out as an ExceptionGroup.
            try:
                while data := await reader.read(64 << 10):
                    for frame in frames.feed(data):
                        if frame.type == REQUEST:
                            calls.create_task(self._call(frame, writer))
                    # The next read waits until the peer has taken its answers.
                    await writer.drain()
            except (OSError, DecodeError) as err:
                log.debug("ttrpc: connection lost: %s", err)

    async def _call(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        try:
            request = _decode_request(frame)
            kind, handler = self._method(request)
            argument = kind.decode(request.payload)
            metadata = {pair.key.lower(): pair.value for pair in request.metadata}
            timeout_s = request.timeout_nano / 1e9 if request.timeout_nano else None
            async with asyncio.timeout(timeout_s):
                answer = await handler(argument, metadata)
            response = Response(status=Status(), payload=bytes(answer))
        except (SampanError, TimeoutError) as err:
            response = Response(status=Status(code=code_of(err), message=text_of(err)))
        except Exception as err:
            log.exception("ttrpc: call failed")
            response = Response(status=Status(code=13, message=f"{type(err).__name__}: {err}"))
        writer.write(pack_frame(frame.stream, RESPONSE, 0, bytes(response)))

    def _method(self, request: Request) -> tuple[type[Message], Handler]:
        method = self._services.get(request.service, {}).get(request.method)
        if method is None:
            raise Unimplemented(f"ttrpc: {request.service}/{request.method}")
        return method

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._server is not None:
            await self._server.wait_closed()


def _decode_request(frame: Frame) -> Request:
    if isinstance(frame, Oversized):
        raise ResourceExhausted(f"message length {frame.size_bytes} exceed maximum size")
    return Request.decode(frame.data)
