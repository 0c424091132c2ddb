"""The client: one typed face of Sampan, the same in process and through the daemon's gRPC.

    async with connect(settings, namespace="default") as client:
        image = await client.images.get("docker.io/library/busybox:latest")
        await client.containers.create(Container(...))
        await client.tasks.create("c1", spec=..., rootfs=mounts)

Each attribute is the Protocol of the room that owns the thing, seen in one namespace, so what is
written against a `Client` does not know which side of a socket it stands on. On top of them stand

    spec/          policy and an image's config made into a config.json
    local/         the implementation in process: an engine, no protobuf, no grpclib
    remote/        the implementation over gRPC to a daemon on this host
    containers     create, find and remove containers as people name them
    host           the rootfs of `host:`, the image that needs no image

`connect(address=...)` speaks to a daemon. What it has not yet (networks, writing of blobs) raises
Unimplemented, which says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from sampan.context import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.distribution.transfer import Transfer
    from sampan.engine import Settings
    from sampan.events import Exchange
    from sampan.metadata.containers import Containers
    from sampan.metadata.content import ContentView
    from sampan.metadata.images import Images
    from sampan.metadata.leases import Leases
    from sampan.metadata.namespaces import Namespaces
    from sampan.metadata.snapshots import SnapshotView
    from sampan.network import NetworkNamespaces, Networks, NetworkStore
    from sampan.runtime import Tasks
    from sampan.storage.diff import Comparer
    from sampan.zygote import Zygote

__all__ = ["Client", "connect"]


class Client(Protocol):
    """Everything of one namespace. Values and errors are those of the rooms."""

    @property
    def root(self) -> Path:
        """Where container folders (logs) are; local clients only."""
        ...

    @property
    def namespace(self) -> str: ...

    @property
    def snapshotter(self) -> str:
        """The default one's name."""
        ...

    @property
    def containers(self) -> Containers: ...

    @property
    def tasks(self) -> Tasks: ...

    @property
    def images(self) -> Images: ...

    @property
    def content(self) -> ContentView: ...

    @property
    def leases(self) -> Leases: ...

    @property
    def namespaces(self) -> Namespaces: ...

    @property
    def events(self) -> Exchange: ...

    @property
    def networks(self) -> Networks: ...

    @property
    def network_namespaces(self) -> NetworkNamespaces: ...

    @property
    def network_store(self) -> NetworkStore:
        """Networks that people make."""
        ...

    def snapshots(self, name: str = "") -> SnapshotView:
        """Return a snapshotter; empty is the default."""
        ...

    def notices(self, snapshotter: str) -> tuple[str, ...]:
        """Return what people should know of a snapshotter's limits on this host."""
        ...

    @property
    def rootless(self) -> bool:
        """Whether workers are root in a user namespace alone, and we an ordinary user."""
        ...

    async def zygote(self) -> Zygote:
        """Return where workers come from; it is the client's."""
        ...

    async def comparer(self) -> Comparer:
        """Return what makes layers of differences between snapshots."""
        ...

    async def transfer(self) -> Transfer:
        """Return the operations on images: pull, push, tag, save, load."""
        ...

    async def delete_container(self, id: str) -> None:
        """Delete a container's record and its snapshot."""
        ...

    async def collect_garbage(self) -> int:
        """Remove what nothing refers to; return how many objects went."""
        ...


@asynccontextmanager
async def connect(
    settings: Settings, *, namespace: str = DEFAULT_NAMESPACE, address: str = "", warm: bool = False
) -> AsyncIterator[Client]:
    """Open a client: in process, or of the daemon at `address`.

    Raises:
      Unavailable: no daemon answers at the address.
      PermissionDenied: root, state, or the socket are not for this user.
    """
    if address:
        from sampan.client.remote.client import open_remote

        async with open_remote(settings, address, namespace=namespace) as remote:
            yield remote
        return
    from sampan.client.local.client import open_local

    async with open_local(settings, namespace=namespace, warm=warm) as client:
        yield client
