"""Channels over a WebSocket: how messages are sorted, and what breaks the connection."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sampan.cri.streaming.channels import Channels, WebSocket
from sampan.cri.streaming.websocket import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, pack_frame
from sampan.cri.streaming.wires import SocketWire

MASK = b"\x01\x02\x03\x04"


class Ends:
    """A server's channels, and the raw other end."""

    def __init__(self, channels: Channels, peer: SocketWire, running: asyncio.Task[None]) -> None:
        self.channels = channels
        self.peer = peer
        self.running = running
        self._reader = FrameReader(masked=False)

    async def send(self, opcode: int, data: bytes) -> None:
        await self.peer.write(pack_frame(opcode, data, MASK))

    async def receive(self) -> tuple[int, bytes]:
        while data := await self.peer.read():
            for piece in self._reader.feed(data):
                return piece.opcode, piece.data
        raise AssertionError("the connection has ended")


@asynccontextmanager
async def ends(protocol: str) -> AsyncIterator[Ends]:
    wires = []
    for sock in socket.socketpair():
        reader, writer = await asyncio.open_connection(sock=sock)
        wires.append(SocketWire(reader, writer, 60))
    channels = Channels(WebSocket(wires[0]), 5, (0, 4), protocol)
    running = asyncio.get_running_loop().create_task(channels.run())
    async with asyncio.timeout(20):
        yield Ends(channels, wires[1], running)
    for wire in reversed(wires):
        wire.abort()
    await running
    await asyncio.sleep(0)


async def test_binary_in_fragments() -> None:
    async with ends("v4.channel.k8s.io") as both:
        await both.peer.write(b"\x02\x81" + MASK + bytes((MASK[0],)))  # FIN is not set: channel 0
        await both.peer.write(b"\x00\x80" + MASK)  # nothing, and still not the end
        await both.peer.write(b"\x80\x82" + MASK + bytes((MASK[0] ^ 65, MASK[1] ^ 66)))
        assert await both.channels[0].read() == b"AB"
        await both.send(BINARY, b"\x01not readable")
        await both.send(BINARY, b"\x63no such channel")
        await both.send(BINARY, b"")
        await both.send(BINARY, b"\xff\x00")  # before v5, a channel like any other
        await both.send(BINARY, b"\x04size")
        assert await both.channels[4].read() == b"size"
        await both.send(CLOSE, b"\x03\xe8")
        assert await both.receive() == (CLOSE, b"\x03\xe8")
        assert await both.channels[0].read() == b""


async def test_v5_closes_one_channel() -> None:
    async with ends("v5.channel.k8s.io") as both:
        await both.peer.write(b"\x02\x81" + MASK + bytes((MASK[0] ^ 255,)))
        await both.peer.write(b"\x80\x81" + MASK + bytes((MASK[0],)))
        assert await both.channels[0].read() == b""
        await both.send(BINARY, b"\x04on")
        assert await both.channels[4].read() == b"on"


@pytest.mark.parametrize("signal", [b"\xff", b"\xff\x09", b"\xff\x00\x00"])
async def test_v5_close_signals_that_make_no_sense(signal: bytes) -> None:
    async with ends("v5.channel.k8s.io") as both:
        await both.send(BINARY, signal)
        opcode, body = await both.receive()
        assert (opcode, body[:2]) == (CLOSE, b"\x03\xea")
        await both.running


async def test_base64() -> None:
    async with ends("base64.channel.k8s.io") as both:
        await both.send(TEXT, b"0" + base64.b64encode(b"\x00\xff"))
        assert await both.channels[0].read() == b"\x00\xff"
        await both.channels[1].write(b"\xfe")
        assert await both.receive() == (TEXT, b"1/g==")
        await both.send(TEXT, b"0***")
        opcode, body = await both.receive()
        assert (opcode, body[:2]) == (CLOSE, b"\x03\xea")


async def test_base64_is_bounded() -> None:
    async with ends("base64.channel.k8s.io") as both:
        with_head = pack_frame(TEXT, b"0" + b"A" * (2 << 20), MASK)
        sending = asyncio.get_running_loop().create_task(both.peer.write(with_head))
        opcode, body = await both.receive()
        assert (opcode, body[:2]) == (CLOSE, b"\x03\xf1")
        both.peer.abort()
        await asyncio.wait((sending,))
        sending.exception()


async def test_pings_are_answered() -> None:
    async with ends("") as both:
        await both.send(PING, b"are you there")
        assert await both.receive() == (PONG, b"are you there")


async def test_long_writes_are_cut_and_closed_channels_refuse() -> None:
    async with ends("") as both:
        await both.channels[1].write(b"")
        assert await both.receive() == (BINARY, b"\x01")
        await both.channels[1].close()
        with pytest.raises(ConnectionError):
            await both.channels[1].write(b"x")
