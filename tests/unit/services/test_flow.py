"""Bytes over streams with windows: two ends in one loop, a thread in the middle."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.types.transfer.streaming_pb2 import Data, WindowUpdate
from sampan.concurrency import to_thread
from sampan.errors import Canceled, ResourceExhausted
from sampan.services.streaming.flow import Sink, Source
from sampan.services.streaming.registry import Stream, pack

SIZE = 3 << 20


class Wire:
    """Carries what one end sends to the other end's stream."""

    def __init__(self) -> None:
        self.other: Stream

    async def send_message(self, message: AnyMessage) -> None:
        await self.other.push(message)


def joined() -> tuple[Stream, Stream]:
    """Return the two ends of one stream."""
    left, right = Wire(), Wire()
    first, second = Stream(left), Stream(right)
    left.other, right.other = second, first
    return first, second


def read_all(source: Source) -> bytes:
    found = b""
    while data := source.read(100_000):
        found += data
    return found


async def test_what_a_sink_writes_a_source_reads() -> None:
    ours, theirs = joined()
    sink, source = Sink(ours), Source(theirs)
    data = bytes(range(256)) * (SIZE // 256)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        pumps = [group.create_task(sink.pump()), group.create_task(source.pump())]
        reading = group.create_task(to_thread(read_all, source))
        assert await to_thread(sink.write, data) == len(data)
        theirs.finish()
        assert await reading == data
        for pump in pumps:
            pump.cancel()


async def test_a_sink_waits_for_its_window() -> None:
    ours, theirs = joined()
    sink = Sink(ours)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        pump = group.create_task(sink.pump())
        writing = group.create_task(sink.send(b"x" * 10))
        await theirs.send(WindowUpdate(update=4))
        first = await theirs.receive()
        assert first is not None
        assert Data.FromString(first.value).data == b"xxxx"
        assert not writing.done()
        await theirs.send(WindowUpdate(update=100))
        await writing
        pump.cancel()


async def test_a_reader_that_goes_cancels_the_writer() -> None:
    ours, _ = joined()
    sink = Sink(ours)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(sink.pump())
        writing = group.create_task(to_thread(_refused, sink))
        ours.finish()
        assert await writing


def _refused(sink: Sink) -> bool:
    with pytest.raises(Canceled):
        sink.write(b"x")
    return True


async def test_a_client_that_ignores_its_window_is_refused() -> None:
    ours, _ = joined()
    source = Source(ours)
    await ours.push(pack(Data(data=bytes(5 << 20))))
    await source.pump()
    with pytest.raises(ResourceExhausted):
        source.read(1)


async def test_abort_frees_a_reader() -> None:
    ours, _ = joined()
    source = Source(ours)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        reading = group.create_task(to_thread(source.read, 1))
        pump = group.create_task(source.pump())
        await asyncio.sleep(0)
        pump.cancel()
        assert await reading == b""
