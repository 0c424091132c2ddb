"""Fifos in a loop."""

import asyncio
import os
from pathlib import Path

import pytest

from sampan.sandbox.streams import Fifos, Reader, Writer


async def nothing() -> None:
    return


async def test_reading_waits_for_what_comes() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    reader = Reader(reading)
    waiting = asyncio.create_task(reader.readline())
    await asyncio.sleep(0)
    os.write(writing, b"one\ntwo")
    assert await waiting == b"one\n"
    os.close(writing)
    assert not reader.at_eof
    assert await reader.readline() == b"two"
    assert await reader.read() == b""
    assert reader.at_eof
    reader.close()


async def test_a_cancelled_read_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    reader = Reader(reading)
    os.write(writing, b"half")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.readline()
    os.write(writing, b" a line\n")
    assert await reader.readline() == b"half a line\n"
    os.close(writing)
    reader.close()


async def test_closing_wakes_who_waits() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    reader = Reader(reading)
    waiting = asyncio.create_task(reader.read(5))
    await asyncio.sleep(0)
    reader.close()
    assert await waiting == b""
    os.close(writing)


async def test_writing_waits_for_room_and_says_when_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    writer, reader = Writer(writing, nothing), Reader(reading)
    data = b"x" * 300_000
    writes = asyncio.create_task(writer.write(data))
    assert await reader.readexactly(len(data)) == data
    await writes
    reader.close()
    with pytest.raises(BrokenPipeError):
        await writer.write("y")
    await writer.close()
    await writer.close()
    with pytest.raises(BrokenPipeError, match="no more"):
        await writer.write("y")


def test_fifos_come_and_go(tmp_path: Path) -> None:
    fifos = Fifos(tmp_path / "f", stdin=True, stderr=False)
    fifos.make()
    assert sorted(os.listdir(tmp_path / "f")) == ["0", "1"]
    assert fifos.path(2) == ""
    fifos.remove()
    fifos.remove()
    assert not (tmp_path / "f").exists()
