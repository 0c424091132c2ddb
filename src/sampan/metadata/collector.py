"""Collection: what `gc` found goes, first from the database, then from the stores.

    1. bare stores: list blobs and snapshots            orphans are those that no row names
    2. one transaction: mark, delete rows, and rename blobs that no namespace has to the trash
    3. bare stores: remove snapshots, children first; abort ingests; empty the trash

The mark is inside the transaction that deletes, so nothing can come to need what it found; a mark
without a lock comes before, and most collections end there. A blob is spared while a live process
is about to write its row (column `committing`), a snapshot while its maker lives and has not
written its row. Killed anywhere, the next collection finds the rest as orphans.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sampan.concurrency import to_thread
from sampan.concurrency.trace import trace
from sampan.errors import NotFound, SampanError
from sampan.metadata import GcStats
from sampan.metadata.core import Core, now_us
from sampan.metadata.db import Tx
from sampan.metadata.gc import Garbage, find_garbage
from sampan.model.digest import Digest
from sampan.storage.content import BareStore
from sampan.storage.snapshots import Info, Snapshotter

__all__ = ["Collector"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Bare:
    """What the bare stores held before the transaction."""

    blobs: set[str] = field(default_factory=set)
    ingests: set[str] = field(default_factory=set)
    snapshots: dict[str, dict[str, Info]] = field(default_factory=dict)
    """By snapshotter and name."""
    in_progress: frozenset[str] = frozenset()
    alive: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Swept:
    garbage: Garbage
    trashed: int = 0
    orphans: list[tuple[str, str]] = field(default_factory=list)
    """Snapshotter and name of bare snapshots that no row names."""
    stray_ingests: list[str] = field(default_factory=list)
    locked_s: float = 0.0


class Collector:
    """Collects for all namespaces; one collection at a time in a process, any number in all."""

    def __init__(
        self, core: Core, content: BareStore | None, snapshotters: Mapping[str, Snapshotter]
    ) -> None:
        self._core = core
        self._content = content
        self._snapshotters = snapshotters
        self._lock = asyncio.Lock()

    async def collect(self, grace_s: float = 0.0) -> GcStats:
        """Remove everything that was garbage when this was called; return when it is done.

        Snapshots that are younger than `grace_s` and not committed are spared.
        """
        grace_us = round(grace_s * 1_000_000)
        async with self._lock:
            began = time.monotonic()
            bare = await self._survey()
            needed = await self._core.db.view(lambda tx: self._is_needed(tx, bare, grace_us))
            swept = _Swept(Garbage())
            if needed:
                swept = await self._core.db.update(
                    lambda tx: self._sweep(tx, bare, grace_us), durable=True
                )
            trace("gc.swept")
            await self._empty(swept, bare)
            await to_thread(self._core.owners.reap)
            stats = self._stats(swept, time.monotonic() - began)
        self._tell(swept.garbage)
        log.debug("collected: %s", stats)
        return stats

    async def _survey(self) -> _Bare:
        """List the stores, then who is alive.

        The order matters: what is listed and has no row afterwards, and was made by nobody who
        still lived or had it in progress in between, never gets a row.
        """
        bare = _Bare()
        if self._content is not None:
            bare.blobs = {info.digest async for info in self._content.walk()}
            bare.ingests = {one.ref for one in await self._content.list_statuses()}
        for name, snapshotter in self._snapshotters.items():
            bare.snapshots[name] = {info.name: info async for info in snapshotter.walk()}
        bare.in_progress = frozenset(self._core.in_progress)
        bare.alive = await to_thread(self._core.owners.alive)
        return bare

    def _is_needed(self, tx: Tx, bare: _Bare, grace_us: int) -> bool:
        return bool(
            find_garbage(tx, now_us(), grace_us)
            or bare.blobs.difference(_column(tx, "SELECT DISTINCT digest FROM content"))
            or self._orphans(tx, bare)
            or self._stray_ingests(tx, bare)
        )

    def _sweep(self, tx: Tx, bare: _Bare, grace_us: int) -> _Swept:
        began = time.monotonic()
        swept = _Swept(find_garbage(tx, now_us(), grace_us))
        # Before the rows go: what they named is counted as garbage, not as orphans, too.
        swept.orphans = self._orphans(tx, bare)
        self._delete_rows(tx, swept.garbage)
        if self._content is not None:
            kept = _column(tx, "SELECT DISTINCT digest FROM content")
            kept |= self._guarded(tx)
            candidates = bare.blobs | {digest for _, digest in swept.garbage.content}
            for digest in sorted(candidates - kept):
                trace("gc.trash")
                swept.trashed += self._content.trash(Digest(digest))
        swept.stray_ingests = self._stray_ingests(tx, bare)
        swept.locked_s = time.monotonic() - began
        return swept

    def _guarded(self, tx: Tx) -> set[str]:
        """Return the digests that live processes are about to write rows for."""
        found = tx.execute("SELECT committing, owner FROM ingests WHERE committing <> ''")
        return {digest for digest, owner in found if self._core.owners.is_alive(owner)}

    def _delete_rows(self, tx: Tx, garbage: Garbage) -> None:
        tx.executemany("DELETE FROM images WHERE namespace = ? AND name = ?", garbage.images)
        tx.executemany("DELETE FROM leases WHERE namespace = ? AND id = ?", garbage.leases)
        tx.executemany(
            "DELETE FROM lease_resources WHERE namespace = ? AND lease = ?", garbage.leases
        )
        tx.executemany("DELETE FROM content WHERE namespace = ? AND digest = ?", garbage.content)
        tx.executemany("DELETE FROM ingests WHERE namespace = ? AND ref = ?", garbage.ingests)
        tx.executemany(
            "DELETE FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?",
            [row[:3] for row in garbage.snapshots],
        )

    def _orphans(self, tx: Tx, bare: _Bare) -> list[tuple[str, str]]:
        found = []
        for snapshotter, infos in bare.snapshots.items():
            named = _column(
                tx, "SELECT backend FROM snapshots WHERE snapshotter = ?", (snapshotter,)
            )
            found += [
                (snapshotter, name)
                for name in infos
                if name not in named and self._is_nobodys(name, bare)
            ]
        return found

    def _is_nobodys(self, name: str, bare: _Bare) -> bool:
        """Tell whether no process is about to write the row of this bare snapshot."""
        _, _, rest = name.partition("/")
        owner = rest.partition("/")[0].partition(".")[0]
        if owner == self._core.owners.id:
            return name not in bare.in_progress
        # Names that are not ours (another program on the same root) have no owner: leave them.
        return len(owner) == 32 and owner not in bare.alive

    def _stray_ingests(self, tx: Tx, bare: _Bare) -> list[str]:
        known = _column(tx, "SELECT namespace || '/' || ref FROM ingests")
        return sorted(bare.ingests - known)

    async def _empty(self, swept: _Swept, bare: _Bare) -> None:
        gone = [(row[1], row[3]) for row in swept.garbage.snapshots] + swept.orphans
        for name, snapshotter in self._snapshotters.items():
            doomed = {backend for kind, backend in gone if kind == name}
            for backend in _children_first(doomed, bare.snapshots[name]):
                trace("gc.remove_snapshot")
                try:
                    await snapshotter.remove(backend)
                except NotFound:
                    continue
                except SampanError as err:
                    log.warning("snapshot is kept until the next collection: %s", err)
            await snapshotter.cleanup()
        if self._content is None:
            return
        for ref in [f"{where}/{ref}" for where, ref in swept.garbage.ingests] + swept.stray_ingests:
            try:
                await self._content.abort(ref)
            except SampanError as err:
                log.debug("ingest is kept: %s", err)
        # Also when we trashed nothing: a process may have died between the rename and here.
        await self._content.cleanup()

    def _stats(self, swept: _Swept, total_s: float) -> GcStats:
        garbage = swept.garbage
        return GcStats(
            content=len(garbage.content),
            snapshots=len(garbage.snapshots) + len(swept.orphans),
            images=len(garbage.images),
            leases=len(garbage.leases),
            ingests=len(garbage.ingests) + len(swept.stray_ingests),
            locked_s=swept.locked_s,
            total_s=total_s,
        )

    def _tell(self, garbage: Garbage) -> None:
        for where, name in garbage.images:
            self._core.publish(where, "/images/delete", "ImageDelete", name=name)
        for where, digest in garbage.content:
            self._core.publish(where, "/content/delete", "ContentDelete", digest=digest)
        for where, snapshotter, key, _ in garbage.snapshots:
            self._core.publish(
                where, "/snapshot/remove", "SnapshotRemove", key=key, snapshotter=snapshotter
            )


def _column(tx: Tx, query: str, arguments: tuple[str, ...] = ()) -> set[str]:
    return {row[0] for row in tx.execute(query, arguments)}


def _children_first(doomed: set[str], infos: Mapping[str, Info]) -> Iterable[str]:
    """Order names so that none comes before what stands upon it."""
    depth: dict[str, int] = {}
    for name in doomed:
        chain: list[str] = []
        at = name
        while at and at not in depth:
            chain.append(at)
            info = infos.get(at)
            at = info.parent if info is not None else ""
        level = depth.get(at, -1)
        for one in reversed(chain):
            level += 1
            depth[one] = level
    return sorted(doomed, key=lambda name: -depth[name])
