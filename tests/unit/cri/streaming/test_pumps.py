"""Bytes between streams and descriptors: pipes, terminals, and readers that go away."""

from __future__ import annotations

import asyncio
import os
import pty

import pytest

from sampan.cri.streaming import drain, feed


class Sink:
    """A writer that keeps what it gets, or fails when told to."""

    def __init__(self) -> None:
        self.got = b""
        self.broken = False

    async def write(self, data: bytes) -> None:
        if self.broken:
            raise ConnectionResetError
        self.got += data

    async def close(self) -> None:
        raise AssertionError("the pump does not close it")


class Source:
    """A reader of prepared pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self, limit: int = 0) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


async def test_a_pipe_larger_than_its_buffer() -> None:
    data = os.urandom(1 << 20)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    sink = Sink()
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            draining = group.create_task(drain(reading, sink))
            await feed(Source(data[:7], data[7:]), writing)
            assert not draining.done()
            os.close(writing)
        assert sink.got == data
    finally:
        os.close(reading)


async def test_a_closed_terminal_has_ended() -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    os.write(theirs, b"bye\n")
    os.close(theirs)
    sink = Sink()
    try:
        await drain(ours, sink)
        assert sink.got == b"bye\r\n"
    finally:
        os.close(ours)


async def test_a_reader_that_went_away_does_not_stop_the_client() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.close(reading)
    source = Source(b"a", b"b", b"c")
    try:
        await feed(source, writing)
        assert source.pieces == []
    finally:
        os.close(writing)


async def test_a_client_that_went_away_is_told() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    sink = Sink()
    sink.broken = True
    os.write(writing, b"x")
    try:
        with pytest.raises(ConnectionError):
            await drain(reading, sink)
    finally:
        os.close(reading)
        os.close(writing)


async def test_cancelled_it_leaves_nothing_on_the_loop() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    task = asyncio.get_running_loop().create_task(drain(reading, Sink()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert not asyncio.get_running_loop().remove_reader(reading)
    os.close(reading)
    os.close(writing)
