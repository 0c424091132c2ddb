"""SPDY streams over one wire: either side may open them, each is half-closed on its own.

    wire ─▶ FrameReader ─▶ Session.run ─▶ Stream.inbox ─▶ Stream.read
    wire ◀─ FrameWriter ◀──────────────── Stream.write, close, reset

**Flow control.** SPDY gives each stream, and the connection, a window of 64 KiB that WINDOW_UPDATE
opens further. Kubernetes' clients and servers know nothing of it: they never send an update, and
would wait for ever for the other half of a larger output. So what is consumed is always announced,
but windows bind our own sending only once the peer has shown that it keeps them: by SETTINGS with
an initial window, or by an update of its own. Otherwise TCP's window holds us back. What comes in
is bounded by `Inbox`, whatever the peer thinks of windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from sampan.cri.streaming import CHUNK_BYTES
from sampan.cri.streaming.inbox import Budget, Inbox
from sampan.cri.streaming.spdy import (
    CANCEL,
    FIN,
    INITIAL_WINDOW_SIZE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    UNIDIRECTIONAL,
    Data,
    Frame,
    FrameReader,
    FrameWriter,
    GoAway,
    Headers,
    Ping,
    Reset,
    Settings,
    SpdyError,
    SynReply,
    SynStream,
    WindowUpdate,
    data_head,
)
from sampan.cri.streaming.wires import Wire

__all__ = ["Session", "Stream"]

log = logging.getLogger(__name__)

_WINDOW = 64 << 10
_STREAMS_MAX = 2048


class Stream:
    """One stream: what `Duplex` promises, and a reset."""

    def __init__(self, session: Session, id: int, headers: Mapping[str, str]) -> None:
        self._session = session
        self.id = id
        self.headers = headers
        """Of its opening; names in lower case."""
        self.inbox = Inbox(budget=session.budget)
        self.sent_fin = False
        self.was_reset = False
        self.window = session.initial_window
        self._consumed = 0
        self.accepted = asyncio.Event()
        """Set when the peer has accepted a stream of ours, or ended it."""
        self.cut = asyncio.Event()
        """Set when it was reset, by either side, or the peer is gone."""

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return 1 to `limit` bytes; b"" when the peer has closed its side, or is gone."""
        data = await self.inbox.read(limit)
        self._consumed += len(data)
        with contextlib.suppress(ConnectionError):
            if self._consumed >= _WINDOW // 2 and not self.inbox.ended:
                consumed, self._consumed = self._consumed, 0
                await self._session.send(WindowUpdate(self.id, consumed))
            await self._session.consumed(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
          ConnectionError: the stream is closed for sending, reset, or its connection gone.
        """
        view = memoryview(data)
        while view:
            size = await self._session.allowance(self, min(len(view), CHUNK_BYTES))
            await self._session.send_data(self, bytes(view[:size]), 0)
            view = view[size:]

    async def close(self) -> None:
        """Say that we send no more."""
        if self.sent_fin or self.was_reset:
            return
        with contextlib.suppress(ConnectionError):
            await self._session.send_data(self, b"", FIN)
        self._session.settle(self)

    async def reset(self, status: int = CANCEL) -> None:
        """End both directions at once, and forget what was not read."""
        self._session.forgotten(self.inbox.drop())
        if self.was_reset:
            return
        self.end()
        self._session.settle(self)
        with contextlib.suppress(ConnectionError):
            await self._session.send(Reset(self.id, status))

    def discard(self) -> None:
        """Forget what came and still comes: otherwise it would stop the other streams."""
        self._session.forgotten(self.inbox.drop())
        self._session.settle(self)

    def end(self) -> None:
        """The peer has reset it, or is gone."""
        self.was_reset = True
        self.inbox.end()
        self.accepted.set()
        self.cut.set()


class Session:
    """All streams of one wire. `run` reads until the peer is gone; `streams` are those open."""

    def __init__(
        self,
        wire: Wire,
        accept: Callable[[Stream], bool] | None = None,
        *,
        server: bool = True,
    ) -> None:
        """Speak over `wire`, which the caller closes.

        Args:
          wire: Already upgraded.
          accept: Called for each stream that the peer opens; False refuses it.
          server: Our streams have even numbers, the client's odd ones.
        """
        self._wire = wire
        self._accept = accept
        self._frames = FrameReader()
        self._writer = FrameWriter()
        self._next_id = 2 if server else 1
        self._last_id = 0
        self._theirs = 1 if server else 0
        self._pings: dict[int, asyncio.Event] = {}
        self._next_ping = self._next_id
        self._keeps_windows = False
        self._opened = asyncio.Event()
        self._window = _WINDOW
        self._consumed = 0
        self._closing = False
        self.initial_window = _WINDOW
        self.budget = Budget()
        self.streams: dict[int, Stream] = {}
        self.gone = False

    async def run(self) -> None:
        """Read until the peer hangs up, says GOAWAY with no stream left, or breaks the protocol."""
        try:
            while data := await self._wire.read():
                for frame in self._frames.feed(data):
                    await self._take(frame)
        except SpdyError as err:
            log.info("streaming connection ended: the client sent %s", err)
            with contextlib.suppress(ConnectionError):
                await self.send(GoAway(self._last_id, 1))
        finally:
            self.gone = True
            for stream in self.streams.values():
                stream.end()
            self._opened.set()
            for answered in self._pings.values():
                answered.set()

    # --- sending -------------------------------------------------------------------------

    async def send(self, frame: Frame) -> None:
        """Send one frame."""
        if self.gone:
            raise ConnectionResetError("the client is gone")
        await self._wire.write(self._writer.pack(frame))

    async def send_data(self, stream: Stream, data: bytes, flags: int) -> None:
        """Send data of a stream, whose window allows them."""
        if self.gone or stream.sent_fin or stream.was_reset:
            raise ConnectionResetError("the client has closed the stream")
        stream.sent_fin = bool(flags & FIN)
        await self._wire.write(data_head(stream.id, len(data), flags) + data)

    async def allowance(self, stream: Stream, wanted: int) -> int:
        """Return how much of `wanted` may be sent now; waits for windows to open."""
        while self._keeps_windows and not (self.gone or stream.was_reset):
            size = min(wanted, stream.window, self._window)
            if size > 0:
                stream.window -= size
                self._window -= size
                return size
            self._opened.clear()
            await self._opened.wait()
        stream.window -= wanted
        self._window -= wanted
        return wanted

    async def consumed(self, size: int) -> None:
        """Tell the peer, now and then, that it may send more over the whole connection."""
        self._consumed += size
        if self._consumed >= _WINDOW // 2:
            consumed, self._consumed = self._consumed, 0
            await self.send(WindowUpdate(0, consumed))

    def forgotten(self, size: int) -> None:
        """Count bytes that nobody will read: the next `consumed` announces them."""
        self._consumed += size

    async def open(self, headers: Mapping[str, str], *, fin: bool = False) -> Stream:
        """Open a stream and wait until the peer has accepted it.

        Raises:
          ConnectionError: it refused, or is gone.
        """
        stream = Stream(self, self._next_id, dict(headers))
        self._next_id += 2
        self.streams[stream.id] = stream
        stream.sent_fin = fin
        await self.send(SynStream(stream.id, dict(headers), FIN if fin else 0))
        await stream.accepted.wait()
        if stream.was_reset:
            raise ConnectionRefusedError(f"the peer refused stream {stream.id}")
        return stream

    async def ping(self) -> None:
        """Wait for the peer to answer.

        Raises:
          ConnectionError: it is gone.
        """
        number, self._next_ping = self._next_ping, self._next_ping + 2
        answered = self._pings[number] = asyncio.Event()
        try:
            await self.send(Ping(number))
            await answered.wait()
        finally:
            del self._pings[number]
        if self.gone:
            raise ConnectionResetError("the peer is gone")

    async def goodbye(self) -> None:
        """Close our side of every stream, and say that we accept no more."""
        self._closing = True
        for stream in list(self.streams.values()):
            await stream.close()
        with contextlib.suppress(ConnectionError):
            await self.send(GoAway(self._last_id))

    def settle(self, stream: Stream) -> None:
        """Forget a stream that has ended both ways."""
        if stream.was_reset or (stream.sent_fin and stream.inbox.ended):
            self.streams.pop(stream.id, None)

    # --- receiving -----------------------------------------------------------------------

    async def _take(self, frame: Frame) -> None:
        match frame:
            case Data(id, data, flags):
                await self._data(id, data, flags)
            case SynStream():
                await self._syn(frame)
            case SynReply(id, _, flags) | Headers(id, _, flags):
                if (stream := self.streams.get(id)) is not None:
                    stream.accepted.set()
                    self._fin(stream, flags)
            case Reset(id, _):
                if (stream := self.streams.pop(id, None)) is not None:
                    stream.end()
                    self._opened.set()
            case Ping(id):
                if id % 2 == self._theirs:
                    with contextlib.suppress(ConnectionError):
                        await self.send(frame)
                elif id in self._pings:
                    self._pings[id].set()
            case WindowUpdate(id, delta):
                self._widen(id, delta)
            case Settings(values):
                if INITIAL_WINDOW_SIZE in values:
                    self._initial(values[INITIAL_WINDOW_SIZE] & 0x7FFFFFFF)
            case GoAway():
                self._closing = True

    async def _data(self, id: int, data: bytes, flags: int) -> None:
        stream = self.streams.get(id)
        if stream is None or stream.inbox.ended:
            with contextlib.suppress(ConnectionError):
                await self.consumed(len(data))
            return
        stream.inbox.put(data)
        self._fin(stream, flags)
        await stream.inbox.room()

    def _fin(self, stream: Stream, flags: int) -> None:
        if flags & FIN:
            stream.inbox.end()
            self.settle(stream)

    async def _syn(self, frame: SynStream) -> None:
        number = frame.stream
        if number % 2 != self._theirs or number <= self._last_id:
            raise SpdyError(f"stream number {number} after {self._last_id}")
        self._last_id = number
        refused = self._closing or len(self.streams) >= _STREAMS_MAX or self._accept is None
        stream = Stream(self, number, frame.headers)
        with contextlib.suppress(ConnectionError):
            if refused or self._accept is None:
                await self.send(Reset(number, REFUSED_STREAM))
                return
            self.streams[number] = stream
            if frame.flags & UNIDIRECTIONAL:
                stream.sent_fin = True
            else:
                await self.send(SynReply(number, {}))
            self._fin(stream, frame.flags)
            if not self._accept(stream):
                await stream.reset(PROTOCOL_ERROR)

    def _widen(self, id: int, delta: int) -> None:
        self._keeps_windows = True
        if id == 0:
            self._window += delta
        elif (stream := self.streams.get(id)) is not None:
            stream.window += delta
        self._opened.set()

    def _initial(self, size: int) -> None:
        self._keeps_windows = True
        for stream in self.streams.values():
            stream.window += size - self.initial_window
        self.initial_window = size
        self._opened.set()
