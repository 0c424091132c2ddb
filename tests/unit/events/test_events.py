from __future__ import annotations

import asyncio

import pytest

from sampan import context
from sampan.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from sampan.events import Envelope, Event, Exchange, Opaque


def numbers(count: int, exchange: Exchange) -> None:
    for number in range(count):
        exchange.publish("/t/n", Event("N", {"id": number}), namespace="ns")


async def test_many_subscribers_get_all_in_order() -> None:
    exchange = Exchange()
    streams = [exchange.subscribe() for _ in range(20)]
    numbers(500, exchange)
    for stream in streams:
        async with stream:
            got = [(await anext(stream)).event for _ in range(500)]
        assert [event.fields["id"] for event in got if isinstance(event, Event)] == list(range(500))


async def test_slow_one_is_cut_off_after_what_it_had() -> None:
    exchange = Exchange()
    async with exchange.subscribe(bound=3) as slow, exchange.subscribe() as fast:
        numbers(5, exchange)
        assert [await anext(slow) for _ in range(3)]
        with pytest.raises(ResourceExhausted):
            await anext(slow)
        assert [await anext(fast) for _ in range(5)]


async def test_filters() -> None:
    exchange = Exchange()
    stream = exchange.subscribe("namespace==a,topic~=|^/tasks/|", 'event.id=="7"')
    with context.scope("a"):
        exchange.publish("/images/create", Event("I", {"id": "6"}))
        exchange.publish("/tasks/exit", Opaque("u", b"x"))
    exchange.publish("/images/create", Event("I", {"id": 7}), namespace="b")
    assert (await anext(stream)).topic == "/tasks/exit"
    assert (await anext(stream)).namespace == "b"
    stream.close()
    assert [each async for each in stream] == []


async def test_waits_until_published() -> None:
    exchange = Exchange()
    async with exchange.subscribe() as stream, asyncio.TaskGroup() as group:
        waiting = group.create_task(anext(stream))
        await asyncio.sleep(0)
        exchange.forward(Envelope(5, "ns", "/a/b", Opaque()))
        assert (await waiting).timestamp_ns == 5


async def test_from_another_thread() -> None:
    exchange = Exchange()
    async with exchange.subscribe() as stream:
        event = Event("E")
        await asyncio.get_running_loop().run_in_executor(
            None, lambda: exchange.publish_threadsafe("/a", event, namespace="ns")
        )
        async with asyncio.timeout(10):
            assert (await anext(stream)).event == event


def test_malformed() -> None:
    exchange = Exchange()
    with pytest.raises(FailedPrecondition):
        exchange.publish("/a", Event("E"))
    for topic in ("", "a", "/", "/a/", "/a b"):
        with pytest.raises(InvalidArgument):
            exchange.publish(topic, Event("E"), namespace="ns")
    with pytest.raises(InvalidArgument):
        exchange.forward(Envelope(0, "ns", "/a", Opaque()))
