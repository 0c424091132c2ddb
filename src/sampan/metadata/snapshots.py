"""Snapshots as one namespace sees them: a Snapshotter over the rows of this namespace.

    prepare   1. the bare snapshot `<namespace>/<owner>.<n>/<key>`   2. its row
    commit    1. the bare one gets its new name                      2. the key's row is the name's
    remove    1. the row goes                                        2. the bare snapshot

Each is one transaction. Killed between 1 and 2, a bare snapshot without row is left, which the next
collection removes once the owner in its name is dead; a key whose bare snapshot was committed away
is replaced when prepared again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from sampan import context
from sampan.concurrency import shielded
from sampan.concurrency.trace import trace
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SampanError,
)
from sampan.metadata import labels
from sampan.metadata.core import (
    Core,
    at,
    ensure_namespace,
    keep_by_lease,
    namespace,
    now_us,
    quoted,
)
from sampan.metadata.db import Tx
from sampan.model import filters
from sampan.model.mounts import Mount
from sampan.storage.snapshots import Info, Kind, Snapshotter, Usage

__all__ = ["REF_LABEL", "SnapshotView"]

log = logging.getLogger(__name__)

REF_LABEL: Final = "containerd.io/snapshot.ref"
"""The name that a snapshot shall have when committed: who finds it taken need not begin."""
_INHERITED: Final = "containerd.io/snapshot/"
_COLUMNS: Final = "kind, key, parent, created_us, updated_us, labels"


class SnapshotView:
    """One snapshotter in the namespace of the request. It does not own the bare one."""

    def __init__(self, core: Core, bare: Snapshotter) -> None:
        self._core = core
        self._bare = bare

    @property
    def name(self) -> str:
        return self._bare.name

    @property
    def capabilities(self) -> frozenset[str]:
        return self._bare.capabilities

    async def stat(self, key: str) -> Info:
        where = namespace()
        return await self._core.db.view(lambda tx: self._get(tx, where, key))

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        where = namespace()
        labels.paths_of(fieldpaths, ("labels",), f"snapshot {quoted(info.name)}")

        def write(tx: Tx) -> Info:
            old = self._get(tx, where, info.name)
            new = labels.merged(old.labels, info.labels, fieldpaths)
            tx.execute(
                "UPDATE snapshots SET labels = ?, updated_us = ?"
                " WHERE namespace = ? AND snapshotter = ? AND key = ?",
                (labels.dump(new), now_us(), where, self.name, info.name),
            )
            return self._get(tx, where, info.name)

        return await self._core.write(write, deletes=True)

    async def usage(self, key: str) -> Usage:
        return await self._bare.usage(await self._backend(key))

    async def mounts(self, key: str) -> list[Mount]:
        return await self._bare.mounts(await self._backend(key))

    async def prepare(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return await self._make(Kind.ACTIVE, key, parent, labels)

    async def view(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return await self._make(Kind.VIEW, key, parent, labels)

    async def _make(
        self, kind: Kind, key: str, parent: str, given: Mapping[str, str] | None
    ) -> list[Mount]:
        where, lease, new = namespace(), context.lease(), labels.check(given or {})
        if not key:
            raise InvalidArgument("snapshot key must not be empty")
        await self._keep_target(where, lease, new.get(REF_LABEL, ""))

        def check(tx: Tx) -> str:
            return self._check_new(tx, where, key, parent, new)

        try:
            below = await self._core.db.view(check)
        except AlreadyExists:
            if not await self._healed(where, key):
                raise
            below = await self._core.db.view(check)
        backend = self._core.backend_name(where, key)
        inherited = {name: text for name, text in new.items() if name.startswith(_INHERITED)}
        self._core.in_progress.add(backend)
        try:
            make = self._bare.prepare if kind is Kind.ACTIVE else self._bare.view
            mounts = await make(backend, below, labels=inherited)
            trace("snapshots.made")

            def write(tx: Tx) -> None:
                check(tx)
                ensure_namespace(tx, where)
                keep_by_lease(tx, where, lease, f"snapshots/{self.name}", key)
                self._insert(tx, where, key, parent, backend, kind, new)

            try:
                await self._core.write(write)
            except BaseException:
                await shielded(10, self._undo(where, backend))
                raise
        finally:
            self._core.in_progress.discard(backend)
        self._core.publish(
            where,
            "/snapshot/prepare",
            "SnapshotPrepare",
            key=key,
            parent=parent,
            snapshotter=self.name,
        )
        return mounts

    async def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        where, lease, new = namespace(), context.lease(), _checked(labels)
        if not name:
            raise InvalidArgument("snapshot name must not be empty")

        def check(tx: Tx) -> tuple[str, str, str | None]:
            if self._row(tx, where, name) is not None:
                raise AlreadyExists(f"snapshot {quoted(name)}: already exists")
            old = self._get(tx, where, key)
            if old.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"snapshot {quoted(key)} is {old.kind.value}, not active")
            below = self._parent(tx, where, parent) if parent else None
            return self._backend_of(tx, where, key), parent or old.parent, below

        backend, standing_on, below = await self._core.db.view(check)
        target = self._core.backend_name(where, name)

        def write(tx: Tx) -> None:
            check(tx)
            ensure_namespace(tx, where)
            self._delete(tx, where, key)
            keep_by_lease(tx, where, lease, f"snapshots/{self.name}", name)
            self._insert(tx, where, name, standing_on, target, Kind.COMMITTED, new)

        async def both() -> None:
            await self._bare.commit(target, backend, labels=_inherited(new), parent=below)
            trace("snapshots.committed")
            try:
                await self._core.write(write)
            except SampanError:
                await self._undo(where, target)
                raise

        self._core.in_progress.add(target)
        try:
            # Between the two steps the key has lost its files: cancellation must not part them.
            await shielded(60, both())
        finally:
            self._core.in_progress.discard(target)
        self._core.publish(
            where, "/snapshot/commit", "SnapshotCommit", key=key, name=name, snapshotter=self.name
        )

    async def remove(self, key: str) -> None:
        where = namespace()
        backend = await self._core.write(lambda tx: self.forget(tx, where, key), deletes=True)
        await self.release(where, key, backend)

    def forget(self, tx: Tx, where: str, key: str) -> str:
        """Delete the row, in the caller's transaction; return what `release` needs afterwards.

        Raises:
          NotFound: no such snapshot.
          FailedPrecondition: others stand upon it.
        """
        backend = self._backend_of(tx, where, key)
        child = tx.execute(
            "SELECT key FROM snapshots WHERE namespace = ? AND snapshotter = ? AND parent = ?"
            " LIMIT 1",
            (where, self.name, key),
        ).fetchone()
        if child is not None:
            raise FailedPrecondition(
                f"cannot remove snapshot {quoted(key)} with child {quoted(child[0])}"
            )
        self._delete(tx, where, key)
        return backend

    async def release(self, where: str, key: str, backend: str) -> None:
        """Remove the bare snapshot after `forget` was committed, and tell."""
        trace("snapshots.forgotten")
        self._core.publish(
            where, "/snapshot/remove", "SnapshotRemove", key=key, snapshotter=self.name
        )
        await shielded(60, self._undo(where, backend))

    async def walk(self, filters_: Sequence[str] = ()) -> AsyncIterator[Info]:
        where, wanted = namespace(), filters.parse_all(filters_)

        def rows(tx: Tx) -> list[Info]:
            found = tx.execute(
                f"SELECT {_COLUMNS} FROM snapshots"  # noqa: S608
                " WHERE namespace = ? AND snapshotter = ? ORDER BY key",
                (where, self.name),
            )
            return [_info(row) for row in found]

        for info in await self._core.db.view(rows):
            if wanted.match(info):
                yield info

    async def cleanup(self) -> None:
        await self._bare.cleanup()

    async def close(self) -> None:
        """Do nothing: the bare snapshotter is its opener's."""

    async def _undo(self, where: str, backend: str) -> None:
        """Remove a bare snapshot that no row names; what fails is left to a collection."""
        try:
            await self._bare.remove(backend)
        except SampanError as err:
            log.info("snapshot is left to the next collection: %s: namespace=%s", err, where)

    async def _keep_target(self, where: str, lease: str | None, target: str) -> None:
        """Let the lease of the request keep a target that is there already, as containerd does.

        Raises:
          AlreadyExists: it is there, and kept.
        """

        def is_there(tx: Tx) -> bool:
            return self._row(tx, where, target) is not None

        def write(tx: Tx) -> bool:
            if not is_there(tx):
                return False
            keep_by_lease(tx, where, lease, f"snapshots/{self.name}", target)
            return True

        if not target or not await self._core.db.view(is_there):
            return
        if await self._core.write(write):
            raise AlreadyExists(f"target snapshot {quoted(target)}: already exists")

    async def _healed(self, where: str, key: str) -> bool:
        """Drop the row of a key whose commit died between its two steps: it has no files."""
        row = await self._core.db.view(lambda tx: self._row(tx, where, key))
        if row is None or row[0] != Kind.ACTIVE.value:
            return False
        try:
            await self._bare.stat(await self._backend(key))
        except NotFound:
            log.warning("snapshot has lost its files: namespace=%s key=%s", where, key)
            await self._core.write(lambda tx: self._delete(tx, where, key), deletes=True)
            return True
        return False

    async def _backend(self, key: str) -> str:
        where = namespace()
        return await self._core.db.view(lambda tx: self._backend_of(tx, where, key))

    def _check_new(self, tx: Tx, where: str, key: str, parent: str, new: Mapping[str, str]) -> str:
        """Check that `key` may be made; return the backend name of its parent, or nothing."""
        if self._row(tx, where, key) is not None:
            raise AlreadyExists(f"snapshot {quoted(key)}: already exists")
        target = new.get(REF_LABEL)
        if target and self._row(tx, where, target) is not None:
            raise AlreadyExists(f"target snapshot {quoted(target)}: already exists")
        return self._parent(tx, where, parent) if parent else ""

    def _parent(self, tx: Tx, where: str, parent: str) -> str:
        row = self._row(tx, where, parent)
        if row is None:
            raise NotFound(f"parent snapshot {parent} does not exist: not found")
        if row[0] != Kind.COMMITTED.value:
            raise InvalidArgument(f"parent snapshot {quoted(parent)} is {row[0]}, not committed")
        return self._backend_of(tx, where, parent)

    def _row(self, tx: Tx, where: str, key: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = tx.execute(
            f"SELECT {_COLUMNS} FROM snapshots"  # noqa: S608
            " WHERE namespace = ? AND snapshotter = ? AND key = ?",
            (where, self.name, key),
        ).fetchone()
        return row

    def _get(self, tx: Tx, where: str, key: str) -> Info:
        row = self._row(tx, where, key)
        if row is None:
            raise NotFound(f"snapshot {key} does not exist: not found")
        return _info(row)

    def _backend_of(self, tx: Tx, where: str, key: str) -> str:
        row = tx.execute(
            "SELECT backend FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?",
            (where, self.name, key),
        ).fetchone()
        if row is None:
            raise NotFound(f"snapshot {key} does not exist: not found")
        return str(row[0])

    def _insert(
        self,
        tx: Tx,
        where: str,
        key: str,
        parent: str,
        backend: str,
        kind: Kind,
        new: Mapping[str, str],
    ) -> None:
        now = now_us()
        tx.execute(
            "INSERT INTO snapshots (namespace, snapshotter, key, parent, backend, kind, labels,"
            " created_us, updated_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (where, self.name, key, parent, backend, kind.value, labels.dump(new), now, now),
        )

    def _delete(self, tx: Tx, where: str, key: str) -> None:
        tx.execute(
            "DELETE FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?",
            (where, self.name, key),
        )
        tx.execute(
            "DELETE FROM lease_resources WHERE namespace = ? AND type = ? AND id = ?",
            (where, f"snapshots/{self.name}", key),
        )


def _checked(new: Mapping[str, str] | None) -> dict[str, str]:
    return labels.check(new or {})


def _inherited(new: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in new.items() if name.startswith(_INHERITED)}


def _info(row: tuple[Any, ...]) -> Info:
    kind, key, parent, created, updated, text = row
    return Info(Kind(kind), key, parent, at(created), at(updated), labels.load(text))
