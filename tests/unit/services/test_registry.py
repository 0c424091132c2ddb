"""Streams by namespace and id."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from sampan import context
from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.services.streaming.registry import Stream, Streams, pack


class Nobody:
    async def send_message(self, message: AnyMessage) -> None:
        raise ConnectionResetError


def test_names_belong_to_their_namespace() -> None:
    streams, one = Streams(), Stream(Nobody())
    with context.scope("a"):
        streams.add("s", one)
        assert streams.get("s") is one
        with pytest.raises(AlreadyExists):
            streams.add("s", Stream(Nobody()))
        with pytest.raises(InvalidArgument):
            streams.add("", one)
    with context.scope("b"), pytest.raises(NotFound):
        streams.get("s")
    with context.scope("a"):
        streams.remove("s", Stream(Nobody()))
        assert streams.get("s") is one
        streams.remove("s", one)
        with pytest.raises(NotFound):
            streams.get("s")
    assert one.closed.is_set()


def test_type_urls_are_bare_names() -> None:
    assert pack(Empty()).type_url == "google.protobuf.Empty"


async def test_what_was_sent_can_be_read_after_the_end() -> None:
    stream = Stream(Nobody())
    await stream.push(AnyMessage(type_url="1"))
    stream.finish()
    first = await stream.receive()
    assert first is not None
    assert first.type_url == "1"
    assert await stream.receive() is None
    assert await stream.receive() is None


async def test_a_full_queue_slows_the_client_down() -> None:
    stream = Stream(Nobody())
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        pushing = group.create_task(_push(stream, 100))
        for number in range(100):
            message = await stream.receive()
            assert message is not None
            assert message.type_url == str(number)
        await pushing


async def _push(stream: Stream, count: int) -> None:
    for number in range(count):
        await stream.push(AnyMessage(type_url=str(number)))


async def test_a_client_that_is_gone() -> None:
    stream = Stream(Nobody())
    assert await stream.send(Empty()) is False
    assert stream.closed.is_set()
    assert await stream.receive() is None
