"""The folders of a snapshotter, and everything that all snapshotters of folders do alike.

    <root>/ledger.db          the rows
           snapshots/<id>/    what `make` of the snapshotter laid down; always with `fs`
           trash/             removed folders, until their files are gone

A snapshotter holds one `Folders` and adds two things of its own: how a new folder is laid down,
and which mounts show it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Protocol

from sampan.concurrency import Limit
from sampan.concurrency.trace import trace
from sampan.errors import FailedPrecondition
from sampan.model.mounts import Mount
from sampan.storage.snapshots import Info, Kind, Usage
from sampan.storage.snapshots.ledger import Ledger, Row
from sampan.storage.trees import measure, remove_tree

__all__ = ["SNAPSHOTS", "Folders", "Layout"]

SNAPSHOTS = Limit("snapshots", 4)
"""Threads for rows and folders, so that a walk of a big one holds nobody else up."""


class Layout(Protocol):
    """What one snapshotter does its own way. Blocking."""

    def make(self, folder: str, row: Row, parents: list[int], labels: Mapping[str, str]) -> None:
        """Lay `folder` down, which does not exist; the write lock is held."""
        ...

    def mounts(self, row: Row, parents: list[int], labels: Mapping[str, str]) -> list[Mount]:
        """Return what shows an active snapshot or view."""
        ...


class Folders:
    """Rows and folders of one root. Blocking: snapshotters call it from threads of SNAPSHOTS."""

    def __init__(self, root: str, layout: Layout) -> None:
        """Open `root`, making what is missing."""
        self.root = root
        self._layout = layout
        os.makedirs(root, mode=0o711, exist_ok=True)
        for name in ("snapshots", "trash"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.join(root, name), 0o711)
        # Traversable, since users of a user namespace reach their root through it; not readable.
        os.chmod(root, 0o711)  # noqa: S103
        os.chmod(os.path.join(root, "snapshots"), 0o711)  # noqa: S103
        os.chmod(os.path.join(root, "trash"), 0o700)
        self.ledger = Ledger(os.path.join(root, "ledger.db"))

    def folder(self, number: int) -> str:
        """Return the folder of a row."""
        return f"{self.root}/snapshots/{number}"

    def fs(self, number: int) -> str:
        """Return the content of a row."""
        return f"{self.root}/snapshots/{number}/fs"

    def create(self, key: str, parent: str, kind: Kind, labels: Mapping[str, str]) -> list[Mount]:
        parents: list[int] = []

        def make(row: Row) -> None:
            parents.extend(self.ledger.ancestors(row))
            folder = self.folder(row.id)
            try:
                self._layout.make(folder, row, parents, labels)
            except FileExistsError:
                # A process died between its folder and its commit: see `ledger`.
                self._trash(folder)
                self._layout.make(folder, row, parents, labels)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._trash(folder)
                raise

        row = self.ledger.create(key, parent, kind, labels, make)
        return self._layout.mounts(row, parents, labels)

    def mounts(self, key: str) -> list[Mount]:
        row = self.ledger.row(key)
        if row.kind is Kind.COMMITTED:
            raise FailedPrecondition(f"snapshot {key!r}: is committed; view or prepare upon it")
        return self._layout.mounts(row, self.ledger.ancestors(row), self.ledger.info(key).labels)

    def usage(self, key: str) -> Usage:
        row = self.ledger.row(key)
        if row.kind is Kind.COMMITTED:
            return Usage(row.inodes, row.size)
        own = [measure(self.fs(row.id)), measure(f"{self.folder(row.id)}/mounts")]
        return Usage(sum(one[0] for one in own), sum(one[1] for one in own))

    def commit(self, name: str, key: str, labels: Mapping[str, str], parent: str | None) -> None:
        row = self.ledger.row(key)
        usage = Usage(*measure(self.fs(row.id)))
        trace("snapshots.measured")
        self.ledger.commit(name, key, labels, parent, usage)

    def remove(self, key: str) -> None:
        row = self.ledger.remove(key)
        trace("snapshots.row_removed")
        with contextlib.suppress(FileNotFoundError):
            self._trash(self.folder(row.id))

    def update(self, info: Info, paths: Sequence[str]) -> Info:
        return self.ledger.update(info, paths)

    def cleanup(self) -> None:
        """Move folders without a row to the trash, and empty it."""
        with self.ledger.writing():
            known = self.ledger.ids()
            snapshots = os.path.join(self.root, "snapshots")
            for name in os.listdir(snapshots):
                if not name.isdigit() or int(name) not in known:
                    self._to_trash(os.path.join(snapshots, name))
        trash = os.path.join(self.root, "trash")
        for name in os.listdir(trash):
            # Another collection may be at it, too; what both leave is the next one's.
            with contextlib.suppress(OSError):
                remove_tree(os.path.join(trash, name))

    def close(self) -> None:
        self.ledger.close()

    def _to_trash(self, path: str) -> str:
        gone = os.path.join(self.root, "trash", os.urandom(12).hex())
        os.rename(path, gone)
        trace("snapshots.trashed")
        return gone

    def _trash(self, path: str) -> None:
        gone = self._to_trash(path)
        try:
            remove_tree(gone)
        except FileNotFoundError:
            # Another process empties the same trash.
            shutil.rmtree(gone, ignore_errors=True)
