"""Metadata: the stores of one root, put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sampan.concurrency import to_thread
from sampan.errors import InvalidArgument
from sampan.events import Publisher
from sampan.metadata import GcStats, SharingPolicy
from sampan.metadata.collector import Collector
from sampan.metadata.containers import Containers
from sampan.metadata.content import ContentView
from sampan.metadata.core import Core
from sampan.metadata.db import Database
from sampan.metadata.images import Images
from sampan.metadata.leases import Leases
from sampan.metadata.namespaces import Namespaces
from sampan.metadata.owners import Owners
from sampan.metadata.sandboxes import Sandboxes
from sampan.metadata.scheduler import GcConfig, Scheduler
from sampan.metadata.snapshots import SnapshotView
from sampan.storage.content import BareStore
from sampan.storage.snapshots import Snapshotter

__all__ = ["Metadata"]

GRACE_S: Final = 10.0
"""Between preparing a snapshot and saying which container it is for: clients without a lease."""


class Metadata:
    """All of the room's stores. Open one a process and root; the bare stores stay the caller's."""

    def __init__(
        self,
        core: Core,
        content: BareStore | None,
        snapshotters: Mapping[str, Snapshotter],
        sharing: SharingPolicy,
    ) -> None:
        self._core = core
        self._collector = Collector(core, content, snapshotters)
        self.db = core.db
        self.owners = core.owners
        self.namespaces = Namespaces(core)
        self.images = Images(core, self.collect)
        self.containers = Containers(core)
        self.sandboxes = Sandboxes(core)
        self.leases = Leases(core, self.collect)
        self._content = None if content is None else ContentView(core, content, sharing)
        self._views = {name: SnapshotView(core, bare) for name, bare in snapshotters.items()}

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        content: BareStore | None = None,
        snapshotters: Mapping[str, Snapshotter] | None = None,
        events: Publisher | None = None,
        sharing: SharingPolicy = SharingPolicy.SHARED,
    ) -> Metadata:
        """Open the metadata of `root`, make or migrate it, and enter among its owners.

        Raises:
          FailedPrecondition: the database is newer than we are, or not ours.
          DataLoss: it is damaged.
        """
        db = await Database.open(root / "metadata" / "meta.db")
        try:
            owners = await to_thread(Owners, root / "owners")
        except BaseException:
            await db.close()
            raise
        return cls(Core(db, owners, events), content, dict(snapshotters or {}), sharing)

    @property
    def content(self) -> ContentView:
        """The content store of the namespace of the request."""
        if self._content is None:
            raise InvalidArgument("no content store is configured")
        return self._content

    @property
    def snapshotters(self) -> Mapping[str, SnapshotView]:
        """The snapshotters of the namespace of the request, by name."""
        return self._views

    def snapshotter(self, name: str) -> SnapshotView:
        """Return one of them.

        Raises:
          InvalidArgument: it is not loaded (containerd answers the same).
        """
        if name not in self._views:
            raise InvalidArgument(f"snapshotter not loaded: {name}")
        return self._views[name]

    async def collect(self) -> GcStats:
        """Collect garbage of all namespaces now, and return when it is gone."""
        return await self._collector.collect()

    def scheduler(self, config: GcConfig | None = None) -> Scheduler:
        """Return the scheduler of collections; it counts from now on, and works while `run`."""
        scheduler = Scheduler(lambda: self._collector.collect(GRACE_S), config)
        self._core.on_change = scheduler.changed
        return scheduler

    async def close(self) -> None:
        """Close the database and leave the owners; what this process left half done is garbage."""
        await self._core.db.close()
        await to_thread(self._core.owners.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
