"""SPDY sessions over a socket pair: windows, refusals, pings, goodbyes, broken peers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sampan.cri.streaming.session import Session, Stream
from sampan.cri.streaming.spdy import (
    INITIAL_WINDOW_SIZE,
    Data,
    FrameReader,
    FrameWriter,
    GoAway,
    Ping,
    Reset,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)
from sampan.cri.streaming.wires import SocketWire
from sampan.testing.streaming import until


async def wire(sock: socket.socket) -> SocketWire:
    reader, writer = await asyncio.open_connection(sock=sock)
    return SocketWire(reader, writer, 60)


class Ends:
    """A server's session, and the raw other end."""

    def __init__(self, session: Session, peer: SocketWire, accepted: list[Stream]) -> None:
        self.session = session
        self.peer = peer
        self.accepted = accepted
        self.writer = FrameWriter()
        self._reader = FrameReader()
        self._frames: list[object] = []

    async def send(self, *frames: object) -> None:
        for frame in frames:
            await self.peer.write(self.writer.pack(frame))  # type: ignore[arg-type]

    async def receive(self) -> object:
        while not self._frames:
            data = await self.peer.read()
            if not data:
                return None
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    one, two = socket.socketpair()
    ours, peer = await wire(one), await wire(two)
    accepted: list[Stream] = []

    def accept(stream: Stream) -> bool:
        accepted.append(stream)
        return stream.headers.get("no") is None

    session = Session(ours, accept)
    running = asyncio.get_running_loop().create_task(session.run())
    async with asyncio.timeout(20):
        yield Ends(session, peer, accepted)
    peer.abort()
    await running
    ours.abort()
    await asyncio.sleep(0)


async def test_a_peer_without_windows_gets_everything() -> None:
    async with ends() as both:
        await both.send(SynStream(1, {}))
        assert await both.receive() == SynReply(1, {})
        stream = both.accepted[0]
        sending = asyncio.get_running_loop().create_task(stream.write(bytes(300_000)))
        got = 0
        while got < 300_000:
            frame = await both.receive()
            assert isinstance(frame, Data)
            got += len(frame.data)
        await sending


async def test_a_peer_with_windows_is_obeyed() -> None:
    async with ends() as both:
        await both.send(Settings({INITIAL_WINDOW_SIZE: 1000}), SynStream(1, {}), Ping(1))
        assert [await both.receive(), await both.receive()] == [SynReply(1, {}), Ping(1)]
        stream = both.accepted[0]
        sending = asyncio.get_running_loop().create_task(stream.write(bytes(2500)))
        assert await both.receive() == Data(1, bytes(1000))
        await both.send(Ping(3))
        assert await both.receive() == Ping(3)  # and no data before it
        await both.send(WindowUpdate(1, 1200))
        assert await both.receive() == Data(1, bytes(1200))
        await both.send(Settings({INITIAL_WINDOW_SIZE: 1400}))
        assert await both.receive() == Data(1, bytes(300))
        await sending


async def test_the_connections_window_counts_for_all_streams() -> None:
    async with ends() as both:
        await both.send(Settings({INITIAL_WINDOW_SIZE: 1 << 20}), SynStream(1, {}), Ping(1))
        assert [await both.receive(), await both.receive()] == [SynReply(1, {}), Ping(1)]
        sending = asyncio.get_running_loop().create_task(both.accepted[0].write(bytes(100_000)))
        got = 0
        while got < 65536:
            frame = await both.receive()
            assert isinstance(frame, Data)
            got += len(frame.data)
        assert got == 65536
        await both.send(Ping(3))
        assert await both.receive() == Ping(3)
        await both.send(WindowUpdate(0, 1 << 20))
        while got < 100_000:
            frame = await both.receive()
            assert isinstance(frame, Data)
            got += len(frame.data)
        await sending


async def test_what_is_consumed_is_announced() -> None:
    async with ends() as both:
        await both.send(SynStream(1, {}), Data(1, bytes(40_000)), SynStream(3, {}, 1))
        assert await both.receive() == SynReply(1, {})
        assert await both.receive() == SynReply(3, {})
        assert await both.accepted[1].read() == b""
        got = 0
        while got < 40_000:
            got += len(await both.accepted[0].read())
        assert await both.receive() == WindowUpdate(1, 32768)
        assert await both.receive() == WindowUpdate(0, 32768)


async def test_half_closed_and_reset() -> None:
    async with ends() as both:
        await both.send(SynStream(1, {}), SynStream(3, {}), Data(1, b"last", 1), Reset(3, 5))
        assert [await both.receive(), await both.receive()] == [SynReply(1, {}), SynReply(3, {})]
        first, second = both.accepted
        assert [await first.read(), await first.read()] == [b"last", b""]
        await first.write(b"answer")
        await first.close()
        await first.close()
        assert [await both.receive(), await both.receive()] == [Data(1, b"answer"), Data(1, b"", 1)]
        with pytest.raises(ConnectionError):
            await first.write(b"after the end")
        await second.cut.wait()
        with pytest.raises(ConnectionError):
            await second.write(b"x")
        assert not both.session.streams


async def test_refusals() -> None:
    async with ends() as both:
        await both.send(SynStream(1, {"no": "1"}))
        assert await both.receive() == SynReply(1, {})
        assert await both.receive() == Reset(1, 1)
        await both.session.goodbye()
        assert await both.receive() == GoAway(1)
        await both.send(SynStream(3, {}))
        assert await both.receive() == Reset(3, 3)


@pytest.mark.parametrize("number", [2, 1])
async def test_stream_numbers_only_rise_and_are_odd(number: int) -> None:
    async with ends() as both:
        await both.send(SynStream(1, {}))
        assert await both.receive() == SynReply(1, {})
        await both.send(SynStream(number, {}))
        assert await both.receive() == GoAway(1, 1)
        assert await both.accepted[0].read() == b""


async def test_a_full_stream_stops_the_connection_until_it_is_read() -> None:
    async with ends() as both:
        await both.send(SynStream(1, {}))
        assert await both.receive() == SynReply(1, {})
        data = os.urandom(3 << 20)

        async def send() -> None:
            for at in range(0, len(data), 60_000):
                await both.send(Data(1, data[at : at + 60_000]))
            await both.send(Data(1, b"", 1))

        sending = asyncio.get_running_loop().create_task(send())
        stream = both.accepted[0]
        await until(lambda: stream.inbox.full)
        for _ in range(100):
            await asyncio.sleep(0)
        assert stream.inbox.waiting_bytes < 400_000
        assert not sending.done()
        got = b""
        while piece := await stream.read():
            got += piece
        assert got == data
        await sending


async def test_our_pings_and_streams() -> None:
    async with ends() as both:
        pinging = asyncio.get_running_loop().create_task(both.session.ping())
        assert await both.receive() == Ping(2)
        await both.send(Ping(2))
        await pinging
        opening = asyncio.get_running_loop().create_task(both.session.open({"a": "b"}))
        assert await both.receive() == SynStream(2, {"a": "b"})
        await both.send(SynReply(2, {}))
        assert (await opening).id == 2
        opening = asyncio.get_running_loop().create_task(both.session.open({}))
        assert await both.receive() == SynStream(4, {})
        await both.send(Reset(4, 3))
        with pytest.raises(ConnectionRefusedError):
            await opening
        pinging = asyncio.get_running_loop().create_task(both.session.ping())
        assert await both.receive() == Ping(4)
        both.peer.abort()
        with pytest.raises(ConnectionError):
            await pinging


async def test_many_streams_that_nobody_reads_hold_little() -> None:
    """2,000 streams with a little less than a full inbox each would be half a gigabyte."""
    async with ends() as both:

        async def flood() -> None:
            for number in range(1, 400, 2):
                await both.send(SynStream(number, {}), Data(number, bytes(200 << 10)))

        sending = asyncio.get_running_loop().create_task(flood())
        await until(lambda: both.session.budget.held_bytes >= 4 << 20)
        for _ in range(200):
            await asyncio.sleep(0)
        assert both.session.budget.held_bytes < 5 << 20
        assert not sending.done()
        while not sending.done():
            for stream in list(both.session.streams.values()):
                await stream.reset()
            await asyncio.sleep(0)
        await both.send(Ping(1))
        while await both.receive() != Ping(1):
            pass
        for stream in list(both.session.streams.values()):
            await stream.reset()
        assert both.session.budget.held_bytes == 0
