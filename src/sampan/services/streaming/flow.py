"""Bytes over a stream: Data one way, WindowUpdate the other.

    receiver ── WindowUpdate 256 KiB ─▶ sender      it may send so much more
    receiver ◀── Data ≤ 32 KiB ──────── sender      ... and so on; the end of the stream is the end

A `Source` is read, and a `Sink` written, by a blocking call in a thread, as archives are; `abort`
frees that thread whatever the client does.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Final

from google.protobuf.message import DecodeError

from sampan.api.containerd.types.transfer import streaming_pb2 as pb
from sampan.errors import Canceled, InvalidArgument, ResourceExhausted, SampanError
from sampan.services.streaming.registry import Stream

__all__ = ["Sink", "Source"]

_DATA: Final = pb.Data.DESCRIPTOR.full_name
_WINDOW: Final = pb.WindowUpdate.DESCRIPTOR.full_name
_WINDOW_BYTES: Final = 256 << 10
_DATA_BYTES: Final = 32 << 10
_DATA_MAX: Final = 4 << 20
"""Of one message; gRPC clients send no larger ones by default."""


class Source:
    """What a client sends, as a file to read; `pump` must run beside the reader."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._chunks: deque[memoryview] = deque()
        self._held = 0
        self._over = False
        self._error: SampanError | None = None
        self._changed = threading.Condition()
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def pump(self) -> None:
        """Bring the client's data to the reader until either is done."""
        granted = 0
        try:
            while True:
                if granted < _WINDOW_BYTES:
                    await self._stream.send(pb.WindowUpdate(update=_WINDOW_BYTES))
                    granted += _WINDOW_BYTES
                message = await self._stream.receive()
                if message is None or self._over:
                    return
                if message.type_url.rpartition("/")[2] != _DATA:
                    continue
                data = pb.Data.FromString(message.value).data
                if len(data) > max(granted, _DATA_MAX):
                    raise ResourceExhausted("client sends more than the window it was given")
                granted -= len(data)
                await self._put(data)
        except DecodeError as err:
            self._error = InvalidArgument(f"stream: {err}")
        except SampanError as err:
            self._error = err
        finally:
            self.abort()

    async def _put(self, data: bytes) -> None:
        with self._changed:
            self._chunks.append(memoryview(data))
            self._held += len(data)
            self._changed.notify()
        while self._held > _WINDOW_BYTES and not self._over:
            self._drained.clear()
            await self._drained.wait()

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end. Blocks: call it in a thread.

        Raises:
          SampanError: the client broke the protocol.
        """
        with self._changed:
            while not self._chunks and not self._over:
                self._changed.wait()
            if not self._chunks:
                if self._error is not None:
                    raise self._error
                return b""
            chunk = self._chunks.popleft()
            data, rest = chunk[:size], chunk[size:]
            if rest:
                self._chunks.appendleft(rest)
            self._held -= len(data)
        self._loop.call_soon_threadsafe(self._drained.set)
        return bytes(data)

    def abort(self) -> None:
        """Let readers find the end once they have read what is there."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._drained.set()


class Sink:
    """A file to write whose bytes go to a client; `pump` must run beside the writer."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._window = 0
        self._over = False
        self._opened = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def pump(self) -> None:
        """Take the client's window updates until it goes."""
        try:
            while (message := await self._stream.receive()) is not None:
                if message.type_url.rpartition("/")[2] == _WINDOW:
                    self._window += max(0, pb.WindowUpdate.FromString(message.value).update)
                    self._opened.set()
        except DecodeError:
            pass
        finally:
            self.abort()

    def write(self, data: bytes, /) -> int:
        """Send all of `data`. Blocks while the client gives no window: call it in a thread.

        Raises:
          Canceled: the client has gone.
        """
        asyncio.run_coroutine_threadsafe(self.send(data), self._loop).result()
        return len(data)

    async def send(self, data: bytes) -> None:
        """Do the same from the event loop."""
        rest = memoryview(data)
        while rest:
            while self._window <= 0 and not self._over:
                self._opened.clear()
                await self._opened.wait()
            size = min(len(rest), self._window, _DATA_BYTES)
            if self._over or not await self._stream.send(pb.Data(data=bytes(rest[:size]))):
                raise Canceled("client closed its end of the stream")
            self._window -= size
            rest = rest[size:]

    def abort(self) -> None:
        """Let writers fail instead of waiting."""
        self._over = True
        self._opened.set()
