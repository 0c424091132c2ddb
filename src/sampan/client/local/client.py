"""`open_local`: an engine, and the `Client` that shows it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sampan import context
from sampan.client import Client
from sampan.engine import Engine, Settings
from sampan.events import Exchange
from sampan.metadata.containers import Containers
from sampan.metadata.content import ContentView
from sampan.metadata.images import Images
from sampan.metadata.leases import Leases
from sampan.metadata.namespaces import Namespaces
from sampan.metadata.snapshots import SnapshotView
from sampan.runtime import Tasks

if TYPE_CHECKING:
    from sampan.distribution.transfer import Transfer
    from sampan.network import NetworkNamespaces, Networks, NetworkStore
    from sampan.storage.diff import Comparer
    from sampan.zygote import Zygote

__all__ = ["LocalClient", "open_local"]


class LocalClient:
    """See `Client`. It works while the block of `open_local` lasts."""

    def __init__(self, engine: Engine, namespace: str, stack: AsyncExitStack) -> None:
        self._engine = engine
        self._stack = stack
        self._transfer: Transfer | None = None
        self.namespace = namespace

    @property
    def engine(self) -> Engine:
        """What this client stands on; gone with a client over gRPC."""
        return self._engine

    @property
    def root(self) -> Path:
        return self._engine.settings.root

    @property
    def snapshotter(self) -> str:
        return self._engine.settings.snapshotter

    @property
    def containers(self) -> Containers:
        return self._engine.metadata.containers

    @property
    def tasks(self) -> Tasks:
        return self._engine.tasks

    @property
    def images(self) -> Images:
        return self._engine.metadata.images

    @property
    def content(self) -> ContentView:
        return self._engine.metadata.content

    @property
    def leases(self) -> Leases:
        return self._engine.metadata.leases

    @property
    def namespaces(self) -> Namespaces:
        return self._engine.metadata.namespaces

    @property
    def events(self) -> Exchange:
        return self._engine.events

    @property
    def networks(self) -> Networks:
        return cast("Networks", self._engine.graph.one("io.sampan.network.v1"))

    @property
    def network_namespaces(self) -> NetworkNamespaces:
        return cast("NetworkNamespaces", self._engine.graph.one("io.sampan.netns.v1"))

    @property
    def network_store(self) -> NetworkStore:
        return cast("NetworkStore", self._engine.graph.one("io.sampan.networkstore.v1"))

    def snapshots(self, name: str = "") -> SnapshotView:
        return self._engine.metadata.snapshotter(name or self.snapshotter)

    def notices(self, snapshotter: str) -> tuple[str, ...]:
        bare = self._engine.graph.all("io.containerd.snapshotter.v1").get(snapshotter)
        return tuple(getattr(bare, "notices", ()))

    @property
    def rootless(self) -> bool:
        return os.geteuid() != 0

    async def zygote(self) -> Zygote:
        return await self._engine.shims.zygote()

    async def comparer(self) -> Comparer:
        from sampan.storage.diff.compare import WalkingComparer

        return WalkingComparer(self.content, self._engine.runner)

    async def transfer(self) -> Transfer:
        if self._transfer is None:
            from sampan.client.local.transfers import open_transfer

            self._transfer = await self._stack.enter_async_context(
                open_transfer(self._engine, self)
            )
        return self._transfer

    async def delete_container(self, id: str) -> None:
        metadata = self._engine.metadata
        await metadata.containers.delete(id, snapshots=metadata.snapshotters)

    async def collect_garbage(self) -> int:
        await self._engine.tasks.sweep()
        return (await self._engine.metadata.collect()).removed


@asynccontextmanager
async def open_local(
    settings: Settings, *, namespace: str, warm: bool = False
) -> AsyncIterator[Client]:
    """Open the engine of `settings`, with the namespace set for the whole block."""
    async with AsyncExitStack() as stack:
        stack.enter_context(context.scope(namespace))
        engine = await stack.enter_async_context(Engine.open(settings, warm=warm))
        yield LocalClient(engine, namespace, stack)
