"""Collections on bare stores: orphans, guards of the living, and the order of removal."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.metadata.folder_stores import FolderContent, FolderSnapshots
from tests.kernel.metadata.objects import put

from sampan import context
from sampan.metadata import Metadata
from sampan.metadata.collector import _children_first
from sampan.model.digest import of_bytes


async def test_orphans_go_unless_somebody_is_at_them(tmp_path: Path) -> None:
    content, folder = FolderContent(tmp_path / "content"), FolderSnapshots(tmp_path / "folder")
    stores = await Metadata.open(tmp_path, content=content, snapshotters={"folder": folder})
    async with stores as metadata:
        # As left by a process that died between its two steps ...
        await folder.prepare("one/dead.1/k")
        (tmp_path / "content/blobs" / of_bytes(b"orphan")).write_bytes(b"orphan")
        # ... and as a living one has it between its own.
        await folder.prepare(f"one/{metadata.owners.id}.1/k")
        stats = await metadata.collect()
        assert (stats.snapshots, stats.removed) == (1, 1)
        assert folder.names() == [f"one/{metadata.owners.id}.1/k"] or len(folder.names()) == 1
        assert [info async for info in content.walk()] == []


async def test_chains_go_at_once_and_are_told(tmp_path: Path) -> None:
    content, folder = FolderContent(tmp_path / "content"), FolderSnapshots(tmp_path / "folder")
    stores = await Metadata.open(tmp_path, content=content, snapshotters={"folder": folder})
    async with stores as metadata:
        with context.scope("one"):
            view, below = metadata.snapshotter("folder"), ""
            for number in range(5):
                await view.prepare("k", below)
                below = f"layer-{number}"
                await view.commit(below, "k")
            await put(metadata, b"blob")
            stats = await metadata.collect()
            assert (stats.snapshots, stats.content) == (5, 1)
            assert [info async for info in view.walk()] == []
        assert list(folder.names()) == []


async def test_children_first(tmp_path: Path) -> None:
    folder = FolderSnapshots(tmp_path / "folder")
    await folder.prepare("a")
    await folder.commit("1", "a")
    await folder.prepare("b", "1")
    await folder.commit("2", "b")
    await folder.prepare("3", "2")
    infos = {info.name: info async for info in folder.walk()}
    order = list(_children_first({"1", "2", "3", "unknown"}, infos))
    assert order.index("3") < order.index("2") < order.index("1")
