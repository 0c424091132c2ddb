"""The bare stores that crash tests work on, and what an outsider sees of them on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kernel.metadata.folder_stores import FolderContent, FolderSnapshots

from sampan.storage.content.local import LocalStore
from sampan.storage.snapshots.overlay import OverlaySnapshotter


def bare_stores(root: Path, kind: str) -> tuple[Any, Any]:
    """Return a content store, and a snapshotter of name `kind`."""
    if kind == "folder":
        return FolderContent(root / "content"), FolderSnapshots(root / "folder")
    return LocalStore(root / "content"), OverlaySnapshotter(str(root / kind))


def blobs_on_disk(root: Path, kind: str) -> set[str]:
    """Return the digests of all blobs, whatever any database says."""
    folder = root / "content" / "blobs"
    if kind == "folder":
        return {one.name for one in folder.iterdir()}
    return {f"{one.parent.name}:{one.name}" for one in folder.glob("*/*")}


def snapshots_on_disk(root: Path, kind: str) -> int:
    """Return how many snapshots have files."""
    if kind == "folder":
        return len(FolderSnapshots(root / "folder").names())
    return len(list((root / kind / "snapshots").iterdir()))


def refuse(root: Path, kind: str) -> Iterator[Path]:
    """Yield what should have been taken away for good."""
    yield from (root / "content" / "trash").glob("*")
    if kind != "folder":
        yield from (root / kind / "trash").glob("*")
