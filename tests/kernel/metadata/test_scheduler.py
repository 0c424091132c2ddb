"""When collections happen: thresholds, delays, the share of time they may take, and grace."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.kernel.metadata.folder_stores import FolderContent, FolderSnapshots

from sampan import context
from sampan.errors import Unavailable
from sampan.metadata import GcStats, Metadata
from sampan.metadata.scheduler import GcConfig, Scheduler


class Counted:
    """Collections that say when they happen."""

    def __init__(self, fail: bool = False) -> None:
        self.count = 0
        self.fail = fail
        self._changed = asyncio.Condition()

    async def __call__(self) -> GcStats:
        async with self._changed:
            self.count += 1
            self._changed.notify_all()
        if self.fail:
            raise Unavailable("no")
        return GcStats()

    async def reaches(self, count: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.count >= count)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_thresholds() -> None:
    collect = Counted()
    config = GcConfig(startup_delay=0, mutation_threshold=5, deletion_threshold=3)
    scheduler = Scheduler(collect, config)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scheduler.run())
        await collect.reaches(1)
        await settle()
        for _ in range(9):
            scheduler.changed(deleted=False)
        await settle()
        # Without a deletion nothing can have become garbage.
        assert collect.count == 1
        scheduler.changed(deleted=True)
        await collect.reaches(2)
        await settle()
        for _ in range(2):
            scheduler.changed(deleted=True)
        await settle()
        assert collect.count == 2
        scheduler.changed(deleted=True)
        await collect.reaches(3)
        running.cancel()
    assert scheduler.collections == 3


async def test_a_failed_collection_is_tried_again() -> None:
    collect = Counted(fail=True)
    scheduler = Scheduler(collect, GcConfig(startup_delay=0, deletion_threshold=1))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scheduler.run())
        await collect.reaches(1)
        await settle()
        scheduler.changed(deleted=True)
        await collect.reaches(2)
        running.cancel()


async def test_a_collection_nobody_asked_for_spares_what_was_just_prepared(tmp_path: Path) -> None:
    content, folder = FolderContent(tmp_path / "content"), FolderSnapshots(tmp_path / "folder")
    stores = await Metadata.open(tmp_path, content=content, snapshotters={"folder": folder})
    async with stores as metadata, asyncio.TaskGroup() as group:
        with context.scope("one"):
            view = metadata.snapshotter("folder")
            await view.prepare("base-active")
            await view.commit("base", "base-active")
            await view.prepare("young", "base")
            await view.prepare("forgotten-active")
            await view.commit("forgotten", "forgotten-active")
            scheduler = metadata.scheduler(GcConfig(startup_delay=0))
            running = group.create_task(scheduler.run())
            async with asyncio.timeout(20):
                while len([info async for info in view.walk()]) > 2:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            # A committed one that nobody names goes; what is being worked upon stays, with parents.
            assert {info.name async for info in view.walk()} == {"base", "young"}
            running.cancel()
            await asyncio.wait([running])
            await metadata.collect()
            assert [info.name async for info in view.walk()] == []
