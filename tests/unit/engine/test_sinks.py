"""Event sinks: each in its own time, and a broken one hears on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sampan.engine.sinks import deliver
from sampan.events import Envelope, Event, Exchange


class Sink:
    def __init__(self, *filters: str, fail: bool = False, most: int = 1 << 30) -> None:
        self.filters: Sequence[str] = filters
        self.fail = fail
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    async def deliver(self, envelope: Envelope) -> None:
        await self.heard.put(envelope.topic)
        if self.fail:
            raise RuntimeError("broken")


async def test_each_hears_what_it_wants() -> None:
    exchange = Exchange()
    tasks, broken = Sink('topic~="^/tasks/"'), Sink(fail=True)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(deliver(exchange, {"tasks": tasks, "broken": broken}))
        while exchange.subscribers < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for topic in ("/images/create", "/tasks/start"):
            exchange.publish(topic, Event("x.Y"), namespace="n")
        assert await asyncio.wait_for(tasks.heard.get(), 10) == "/tasks/start"
        assert await asyncio.wait_for(broken.heard.get(), 10) == "/images/create"
        assert await asyncio.wait_for(broken.heard.get(), 10) == "/tasks/start"
        running.cancel()
