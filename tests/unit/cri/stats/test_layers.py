"""Layers: walked once in a while, one at a time, and old answers at once."""

from __future__ import annotations

import asyncio

from sampan.cri.stats import Layers
from sampan.errors import NotFound
from sampan.storage.snapshots import Usage


class Walks:
    """A walk that counts, and waits when it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 0.0

    async def __call__(self, key: str) -> Usage:
        if key == "gone":
            raise NotFound(f"snapshot {key}")
        self.count += 1
        await self.gate.wait()
        return Usage(inodes=self.count, size=100 * self.count)


async def test_first_waits_then_known_then_renewed() -> None:
    walks = Walks()
    layers = Layers(walks, "/m", period_s=10, clock=lambda: walks.now)
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(layers.get("k")) for _ in range(2)]
    assert both[0].result() is both[1].result()
    first = both[0].result()
    assert first is not None
    assert (first.used_bytes, first.inodes, first.mountpoint, walks.count) == (100, 1, "/m", 1)
    walks.now = 9
    assert await layers.get("k") is first
    walks.now = 10
    walks.gate.clear()
    assert await layers.get("k") is first  # old, but at once
    walks.gate.set()
    await asyncio.sleep(0)
    await layers.close()
    walks.now = 11
    layers.forget("k")
    again = await layers.get("k")
    assert again is not None
    assert walks.count >= 2
    await layers.close()


async def test_a_layer_that_is_gone() -> None:
    layers = Layers(Walks(), "/m")
    assert await layers.get("gone") is None
    await layers.close()
