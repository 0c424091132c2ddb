"""The snapshotters on a real kernel: the shared suite for each, and killed processes."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.storage.snapshots.native import NativeSnapshotter
from sampan.storage.snapshots.overlay import FolderSnapshotter, OverlaySnapshotter
from sampan.testing import requires
from sampan.testing.snapshot_suite import SnapshotSuite, read, write

_WORK = """
import asyncio, sys
from sampan.storage.snapshots.overlay import OverlaySnapshotter
async def main():
    s = OverlaySnapshotter(sys.argv[1])
    await s.prepare("k", "base")
    await s.commit("next", "k")
    await s.prepare("c", "next")
    await s.remove("c")
    await s.cleanup()
    await s.close()
asyncio.run(main())
"""


@requires("root")
class TestOverlay(SnapshotSuite):
    @pytest.fixture
    async def snapshotter(self, root: Path) -> AsyncIterator[FolderSnapshotter]:
        opened = OverlaySnapshotter(root / "s")
        yield opened
        await opened.close()


@requires("root")
class TestNative(SnapshotSuite):
    @pytest.fixture
    async def snapshotter(self, root: Path) -> AsyncIterator[FolderSnapshotter]:
        opened = NativeSnapshotter(root / "s")
        yield opened
        await opened.close()


@requires("root")
async def test_killed_between_any_two_steps(root: Path) -> None:
    async def base(name: str) -> Path:
        folder = root / name
        snapshotter = OverlaySnapshotter(folder)
        write(await snapshotter.prepare("k"), a="1")
        await snapshotter.commit("base", "k")
        await snapshotter.close()
        return folder

    log = root / "trace"
    argv = [sys.executable, "-c", _WORK]
    first = await base("first")
    subprocess.run(  # noqa: ASYNC221
        [*argv, first], env={"SAMPAN_TRACE_LOG": str(log)}, check=True
    )
    names = log.read_text().split()
    points = [(name, count) for name in dict.fromkeys(names) for count in (1, names.count(name))]
    for name, count in dict.fromkeys(points):
        folder = await base(f"{name}-{count}")
        done = subprocess.run(  # noqa: ASYNC221
            [*argv, folder], env={"SAMPAN_TRACE_KILL": f"{name}:{count}"}
        )
        assert done.returncode == -9, name
        snapshotter = OverlaySnapshotter(folder)
        await snapshotter.cleanup()
        known = {one.name: one async for one in snapshotter.walk()}
        assert "base" in known
        assert len(list((folder / "snapshots").iterdir())) == len(known)
        assert list((folder / "trash").iterdir()) == []
        assert read(await snapshotter.prepare("again", "base")) == {"a": "1"}
        await snapshotter.close()
