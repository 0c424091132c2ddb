"""A ttrpc server on `loop`, for the shim.

A service is a mapping from method names to `Method(request type, async handler)`. A handler gets
the decoded request and a `Context`, and returns the answer or raises; it may wait as long as it
likes, as Task.Wait does, while other calls are served.

Limits, so that no peer can make a shim grow: a connection may have 1,024 calls under way, and no
call of it is read while more than 8 MiB of answers wait for it to read them.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping

from sampan.errors import (
    DeadlineExceeded,
    PermissionDenied,
    ResourceExhausted,
    SampanError,
    Unimplemented,
)
from sampan.rpc.frames import (
    DATA,
    REMOTE_OPEN,
    REQUEST,
    RESPONSE,
    Frame,
    FrameReader,
    Oversized,
    pack_frame,
)
from sampan.rpc.loop import ERR, HUP, IN, OUT, Future, Loop
from sampan.rpc.messages.wellknown import Request, Response, Status
from sampan.rpc.status import code_of, text_of
from sampan.rpc.streaming import Stream
from sampan.rpc.wire import DecodeError, Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Connection", "Context", "Method", "Saved", "Server", "check_peer"]

CALLS_MAX = 1024
_BACKLOG_BYTES = 8 << 20
_STREAM_BACKLOG_BYTES = 256 << 10
_CHUNK = 64 << 10


# Place of each listener; of each connection its fd, its last stream, and its calls that wait:
# stream, service, method, payload.
_Call = tuple[int, str, str, bytes]
Saved = tuple[list[int], list[tuple[int, int, list[_Call]]]]


class Context:
    """What a handler may know about its call."""

    __slots__ = ("_stream", "connection", "deadline_s", "metadata")

    def __init__(
        self, connection: Connection, metadata: Mapping[str, str], deadline_s: float | None
    ) -> None:
        self.connection = connection
        self.metadata = metadata
        """Keys in lower case; of a repeated key the last value."""
        self.deadline_s = deadline_s
        """On the monotonic clock; the answer is dropped and DEADLINE_EXCEEDED sent after it."""
        self._stream: Stream | None = None

    @property
    def stream(self) -> Stream:
        """The messages of a streaming call."""
        assert self._stream is not None  # noqa: S101  only methods that stream have one
        return self._stream

    @stream.setter
    def stream(self, stream: Stream) -> None:
        self._stream = stream


class Method:
    """One row of a service."""

    __slots__ = ("handler", "request", "resumable", "streams")

    def __init__(
        self,
        request: type[Message],
        handler: Callable[[Any, Context], Awaitable[Message | None]],
        *,
        resumable: bool = False,
        streams: bool = False,
    ) -> None:
        self.request = request
        self.handler = handler
        self.resumable = resumable
        """Whether a call that waits can be made again from its request by another server."""
        self.streams = streams
        """Whether messages go either way: see `streaming`; what the handler returns is dropped."""


def check_peer(connection: socket.socket) -> None:
    """Refuse a peer that is neither root nor of our own user.

    Raises:
      PermissionDenied: it is somebody else.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("=iII", raw)
    if uid not in (0, os.geteuid()):
        raise PermissionDenied(f"ttrpc: uid {uid} may not use this socket")


class Server:
    """Serves `services` on listening sockets and on single connections; owns them all."""

    def __init__(self, loop: Loop, services: Mapping[str, Mapping[str, Method]]) -> None:
        self.loop = loop
        self.services = services
        self._listeners: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self.on_alone: Callable[[], None] = lambda: None
        """Called when the last connection has closed."""

    def listen(self, listener: socket.socket) -> None:
        """Accept on `listener`, which becomes ours."""
        listener.setblocking(False)
        self._listeners.append(listener)
        self.loop.watch(listener.fileno(), IN, lambda _events: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        try:
            check_peer(connection)
        except PermissionDenied:
            connection.close()
            return
        self.serve(connection)

    def serve(self, connection: socket.socket) -> Connection:
        """Serve one connected socket, which becomes ours."""
        connection.setblocking(False)
        made = Connection(self, connection)
        self._connections.add(made)
        return made

    def forget(self, connection: Connection) -> None:
        """Called by a connection that has closed."""
        self._connections.discard(connection)
        if not self._connections:
            self.on_alone()

    def save(self) -> Saved | None:
        """Return what another server can go on with; None while a call is under way.

        Calls of resumable methods do not count: they are in what is returned.
        """
        connections = []
        for connection in self._connections:
            saved = connection.save()
            if saved is None:
                return None
            connections.append(saved)
        return [listener.fileno() for listener in self._listeners], connections

    @property
    def waiting(self) -> int:
        """How many calls are under way."""
        return sum(connection.waiting for connection in self._connections)

    def restore(self, saved: Saved) -> None:
        """Go on with what another server has saved, in a process that has the same fds."""
        listeners, connections = saved
        for fd in listeners:
            self.listen(socket.socket(fileno=fd))
        for fd, last, calls in connections:
            self.serve(socket.socket(fileno=fd)).resume(last, calls)

    def stop_listening(self) -> None:
        """Accept no more; connections stay."""
        for listener in self._listeners:
            self.loop.unwatch(listener.fileno())
            listener.close()
        self._listeners.clear()

    def close(self) -> None:
        """Close everything; answers still unsent are tried once."""
        self.stop_listening()
        self.on_alone = lambda: None
        for connection in list(self._connections):
            connection.flush()
            connection.close()


class Connection:
    """One client. Calls under way when it closes go on; their answers are dropped."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._loop = server.loop
        self._socket = sock
        self._reader = FrameReader()
        self._out = bytearray()
        self._streams: dict[int, tuple[str, str, bytes] | None] = {}
        """Calls under way; of resumable ones what makes them anew."""
        self._open: dict[int, Stream] = {}
        self._room: Future[None] | None = None
        self._last = 0
        self._events = IN
        self._loop.watch(sock.fileno(), IN, self._ready)

    def _ready(self, events: int) -> None:
        if events & OUT:
            self.flush()
        if events & IN and self._socket.fileno() >= 0:
            self._read()
        elif events & (ERR | HUP):
            self.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for frame in self._reader.feed(data):
                self._frame(frame)
        except DecodeError:
            self.close()

    def _frame(self, frame: Frame) -> None:
        if frame.type != REQUEST:
            if frame.type == DATA and frame.stream <= self._last:
                stream = self._open.get(frame.stream)
                if stream is not None:  # else it is over, or a unary call, which has none
                    stream.feed(frame)
                return
            raise DecodeError(f"ttrpc: {frame!r} from a client")
        if frame.stream % 2 == 0 or frame.stream <= self._last:
            raise DecodeError(f"ttrpc: a client may not open stream {frame.stream}")
        self._last = frame.stream
        try:
            if isinstance(frame, Oversized):
                raise ResourceExhausted(f"message length {frame.size_bytes} exceed maximum size")
            if len(self._streams) >= CALLS_MAX:
                raise ResourceExhausted(f"more than {CALLS_MAX} calls under way")
            request = Request.decode(frame.data)
            method = self._method(request.service, request.method)
            begun = method.streams and bool(frame.flags & REMOTE_OPEN)
            argument = None if begun else method.request.decode(request.payload)
        except SampanError as error:
            self._answer(frame.stream, None, error)
            return
        self._streams[frame.stream] = (
            (request.service, request.method, request.payload) if method.resumable else None
        )
        deadline_s = None
        if request.timeout_nano:
            deadline_s = time.monotonic() + request.timeout_nano / 1e9
        metadata = {pair.key.lower(): pair.value for pair in request.metadata}
        context = Context(self, metadata, deadline_s)
        if method.streams:
            context.stream = self._begin_stream(frame, method, request.payload, open=begun)
        self._loop.spawn(self._serve(frame.stream, method, argument, context))

    def _begin_stream(self, frame: Frame, method: Method, payload: bytes, *, open: bool) -> Stream:
        stream = Stream(frame.stream, method.request, self._write, self._when_room, open=open)
        self._open[frame.stream] = stream
        if open and payload:
            stream.feed(Frame(frame.stream, DATA, 0, payload))
        return stream

    def _write(self, frame: bytes) -> None:
        self._out += frame
        self.flush()

    def _when_room(self) -> Future[None]:
        if self._room is None:
            self._room = Future()
        if len(self._out) < _STREAM_BACKLOG_BYTES:
            self._have_room()
            done: Future[None] = Future()
            done.set(None)
            return done
        return self._room

    def _have_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set(None)

    def _method(self, service: str, name: str) -> Method:
        methods = self._server.services.get(service)
        if methods is None:
            raise Unimplemented(f"service {service}")
        method = methods.get(name)
        if method is None:
            raise Unimplemented(f"method {name}")
        return method

    @property
    def waiting(self) -> int:
        """How many calls are under way."""
        return len(self._streams)

    def save(self) -> tuple[int, int, list[_Call]] | None:
        """Return what another connection on the same socket needs; None while a call runs."""
        if self._out or not self._reader.idle:
            return None
        calls = []
        for stream, call in self._streams.items():
            if call is None:
                return None
            calls.append((stream, *call))
        return self._socket.fileno(), self._last, calls

    def resume(self, last: int, calls: list[_Call]) -> None:
        """Go on where another connection has stopped."""
        self._last = last
        for stream, service, name, payload in calls:
            method = self._method(service, name)
            self._streams[stream] = (service, name, payload)
            context = Context(self, {}, None)
            argument = method.request.decode(payload)
            self._loop.spawn(self._serve(stream, method, argument, context))

    async def _serve(
        self, stream: int, method: Method, argument: Message | None, context: Context
    ) -> None:
        timer = None
        if context.deadline_s is not None:
            left_s = max(0.0, context.deadline_s - time.monotonic())
            late = DeadlineExceeded("context deadline exceeded")
            timer = self._loop.call_later(left_s, lambda: self._finish(stream, None, late))
        try:
            answer = await method.handler(argument, context)
        except Exception as error:
            self._finish(stream, None, error)
            if not isinstance(error, SampanError):
                raise
        else:
            self._finish(stream, answer, None)
        finally:
            if timer is not None:
                timer.cancel()

    def _finish(self, stream: int, answer: Message | None, error: BaseException | None) -> None:
        if stream in self._streams:
            del self._streams[stream]
            opened = self._open.pop(stream, None)
            if opened is not None and error is None:
                self._write(opened.end())
            else:
                self._answer(stream, answer, error)

    def _answer(self, stream: int, answer: Message | None, error: BaseException | None) -> None:
        if error is None and answer is not None:
            response = Response(status=Status(), payload=bytes(answer))
        else:
            assert error is not None  # noqa: S101
            response = Response(status=Status(code=code_of(error), message=text_of(error)))
        try:
            frame = pack_frame(stream, RESPONSE, 0, bytes(response))
        except ResourceExhausted as error:
            response = Response(status=Status(code=code_of(error), message=text_of(error)))
            frame = pack_frame(stream, RESPONSE, 0, bytes(response))
        self._out += frame
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now; watch for room if something is left."""
        if self._socket.fileno() < 0:
            return
        try:
            while self._out:
                del self._out[: self._socket.send(memoryview(self._out)[:_CHUNK].tobytes())]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._out) < _STREAM_BACKLOG_BYTES:
            self._have_room()
        wanted = (OUT if self._out else 0) | (IN if len(self._out) < _BACKLOG_BYTES else 0)
        if wanted != self._events:
            self._events = wanted
            self._loop.watch(self._socket.fileno(), wanted, self._ready)

    def close(self) -> None:
        """Close the socket; harmless twice."""
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._streams.clear()
            self._out.clear()
            for stream in self._open.values():
                stream.lose()
            self._open.clear()
            self._have_room()
            self._server.forget(self)
