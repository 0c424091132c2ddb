"""`open_remote`: a connection to a daemon on this host, and the `Client` that it is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from google.protobuf.any_pb2 import Any as AnyMessage

from sampan import context
from sampan.api.containerd.services.events.v1 import events_pb2
from sampan.api.containerd.services.events.v1.events_grpc import EventsStub
from sampan.api.containerd.services.introspection.v1 import introspection_pb2
from sampan.api.containerd.services.introspection.v1.introspection_grpc import IntrospectionStub
from sampan.api.containerd.services.transfer.v1 import transfer_pb2
from sampan.api.containerd.services.transfer.v1.transfer_grpc import TransferStub
from sampan.api.containerd.types.platform_pb2 import Platform as PlatformMessage
from sampan.api.containerd.types.transfer import imagestore_pb2, registry_pb2
from sampan.client.remote.channel import Connection
from sampan.client.remote.snapshots import RemoteContent, RemoteSnapshots
from sampan.client.remote.stores import (
    RemoteContainers,
    RemoteImages,
    RemoteLeases,
    RemoteNamespaces,
)
from sampan.client.remote.tasks import RemoteTasks
from sampan.concurrency import to_thread
from sampan.errors import PermissionDenied, Unimplemented
from sampan.events import Envelope
from sampan.model.opaque import Opaque
from sampan.model.platform import default

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.engine import Settings
    from sampan.metadata import Image
    from sampan.model.reference import Reference
    from sampan.zygote import Zygote

__all__ = ["RemoteClient", "open_remote"]

_CONTENT: Final = "io.containerd.content.v1"
_PULL_S: Final = 3600.0


class RemoteClient:
    """See `Client`. The daemon is on this host, and so are its folders."""

    rootless = False

    def __init__(
        self, connection: Connection, settings: Settings, namespace: str, root: Path
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._zygote: Zygote | None = None
        self.namespace = namespace
        self.root = root
        self.snapshotter = settings.snapshotter
        self.containers = RemoteContainers(connection)
        self.tasks = RemoteTasks(connection)
        self.images = RemoteImages(connection)
        self.content = RemoteContent(connection)
        self.leases = RemoteLeases(connection)
        self.namespaces = RemoteNamespaces(connection)
        self.events = _Events(connection)

    def _not_here(self, what: str) -> NoReturn:
        raise Unimplemented(f"{what} through the daemon is not there yet: use in_process()")

    @property
    def networks(self) -> Any:
        self._not_here("networking")

    @property
    def network_namespaces(self) -> Any:
        self._not_here("networking")

    @property
    def network_store(self) -> Any:
        self._not_here("networking")

    def snapshots(self, name: str = "") -> RemoteSnapshots:
        return RemoteSnapshots(self._connection, name or self.snapshotter)

    def notices(self, snapshotter: str) -> tuple[str, ...]:
        del snapshotter
        return ()

    async def zygote(self) -> Zygote:
        """Workers that touch files are ours, not the daemon's."""
        if self._zygote is None or not self._zygote.alive():
            from sampan.zygote import Zygote

            self._zygote = await to_thread(Zygote.start)
        return self._zygote

    async def comparer(self) -> Any:
        self._not_here("commit")

    async def transfer(self) -> _Transfer:
        return _Transfer(self, self._connection)

    async def delete_container(self, id: str) -> None:
        container = await self.containers.get(id)
        await self.containers.delete(id)
        if container.snapshot_key:
            await self.snapshots(container.snapshotter).remove(container.snapshot_key)

    async def collect_garbage(self) -> int:
        """Let the daemon collect: the deletion of a lease, done synchronously, does it."""
        made = await self.leases.create()
        await self.leases.delete(made.id, sync=True)
        return 0

    async def close(self) -> None:
        """Hang up."""
        self._connection.close()
        if self._zygote is not None:
            await to_thread(self._zygote.close)


class _Transfer:
    """The daemon's Transfer service, as far as sandboxes need it."""

    def __init__(self, client: RemoteClient, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self._stub = TransferStub(connection.channel)

    async def pull(self, reference: Reference, *, platform: Any = None, **more: Any) -> Image:
        """Pull and unpack an image for this host's platform."""
        del platform, more
        own = default()
        target = imagestore_pb2.ImageStore(
            name=str(reference),
            unpacks=[
                imagestore_pb2.UnpackConfiguration(
                    platform=PlatformMessage(
                        os=own.os, architecture=own.architecture, variant=own.variant
                    ),
                    snapshotter=self._client.snapshotter,
                )
            ],
        )
        source = registry_pb2.OCIRegistry(reference=str(reference))
        request = transfer_pb2.TransferRequest(source=_any(source), destination=_any(target))
        await self._connection.call(self._stub.Transfer, request, timeout_s=_PULL_S)
        return await self._client.images.get(str(reference))


def _any(message: Any) -> AnyMessage:
    return AnyMessage(
        type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True)
    )


@dataclass
class _Events:
    """See `events.Exchange`; only listening."""

    connection: Connection

    def subscribe(self, *texts: str) -> _Subscription:
        """Start to listen when it is entered."""
        return _Subscription(self.connection, texts)


class _Subscription:
    def __init__(self, connection: Connection, texts: tuple[str, ...]) -> None:
        stub = EventsStub(connection.channel)
        request = events_pb2.SubscribeRequest(filters=texts)
        self._answers = connection.stream(stub.Subscribe, request)

    async def __aenter__(self) -> AsyncIterator[Envelope]:
        return self._envelopes()

    async def _envelopes(self) -> AsyncIterator[Envelope]:
        async for one in self._answers:
            yield Envelope(
                one.timestamp.seconds * 1_000_000_000 + one.timestamp.nanos,
                one.namespace,
                one.topic,
                Opaque(one.event.type_url, one.event.value),
            )

    async def __aexit__(self, *error: object) -> None:
        await self._answers.aclose()  # type: ignore[attr-defined]


async def _root(connection: Connection, settings: Settings) -> Path:
    """Return the daemon's root, which the content store's own lies in."""
    stub = IntrospectionStub(connection.channel)
    request = introspection_pb2.PluginsRequest(filters=[f"type=={_CONTENT}"])
    answer = await connection.call(stub.Plugins, request, timeout_s=10)
    for plugin in answer.plugins:
        if path := dict(plugin.exports).get("root"):
            return Path(path).parent
    return settings.root


def _is_closed_to_us(path: str) -> bool:
    return os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)


@asynccontextmanager
async def open_remote(settings: Settings, address: str, *, namespace: str) -> AsyncIterator[Client]:
    """Connect to the daemon at `address`, with the namespace set for the whole block.

    Raises:
      Unavailable: nobody answers there.
      PermissionDenied: the socket is not for this user.
    """
    if _is_closed_to_us(address.removeprefix("unix://")):
        raise PermissionDenied(f"the daemon's socket {address} is not for this user: run as root")
    connection = Connection(address)
    with context.scope(namespace):
        try:
            client: Any = RemoteClient(
                connection, settings, namespace, await _root(connection, settings)
            )
        except BaseException:
            connection.close()
            raise
        try:
            yield client
        finally:
            await client.close()
