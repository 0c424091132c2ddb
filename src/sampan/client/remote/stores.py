"""Containers, images, leases and namespaces of the daemon's metadata."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from sampan.api.containerd.services.containers.v1 import containers_pb2
from sampan.api.containerd.services.containers.v1.containers_grpc import ContainersStub
from sampan.api.containerd.services.images.v1 import images_pb2
from sampan.api.containerd.services.images.v1.images_grpc import ImagesStub
from sampan.api.containerd.services.leases.v1 import leases_pb2
from sampan.api.containerd.services.leases.v1.leases_grpc import LeasesStub
from sampan.api.containerd.services.namespaces.v1 import namespace_pb2
from sampan.api.containerd.services.namespaces.v1.namespace_grpc import NamespacesStub
from sampan.client.remote.channel import Connection
from sampan.metadata import Container, Image, Lease, Namespace
from sampan.model.descriptor import Descriptor
from sampan.services.containers.convert import container_from, container_of
from sampan.services.convert import descriptor_from, descriptor_of

__all__ = ["RemoteContainers", "RemoteImages", "RemoteLeases", "RemoteNamespaces"]

_EXPIRE = "containerd.io/gc.expire"


def when(message: Any) -> datetime:
    return datetime.fromtimestamp(message.seconds + message.nanos / 1e9, UTC)


class RemoteContainers:
    """See `metadata.containers`."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._stub = ContainersStub(connection.channel)

    @staticmethod
    def _value(message: Any) -> Container:
        return replace(
            container_of(message),
            created_at=when(message.created_at),
            updated_at=when(message.updated_at),
        )

    async def get(self, id: str) -> Container:
        answer = await self._call(self._stub.Get, containers_pb2.GetContainerRequest(id=id))
        return self._value(answer.container)

    async def list(self, *texts: str) -> builtins.list[Container]:
        request = containers_pb2.ListContainersRequest(filters=texts)
        answer = await self._call(self._stub.List, request)
        return [self._value(one) for one in answer.containers]

    async def create(self, container: Container) -> Container:
        request = containers_pb2.CreateContainerRequest(container=container_from(container))
        return self._value((await self._call(self._stub.Create, request)).container)

    async def update(self, container: Container, fields: Sequence[str] = ()) -> Container:
        request = containers_pb2.UpdateContainerRequest(
            container=container_from(container),
            update_mask=FieldMask(paths=fields) if fields else None,
        )
        return self._value((await self._call(self._stub.Update, request)).container)

    async def delete(self, id: str, **more: Any) -> None:
        del more
        await self._call(self._stub.Delete, containers_pb2.DeleteContainerRequest(id=id))


class RemoteImages:
    """See `metadata.images`."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._stub = ImagesStub(connection.channel)

    @staticmethod
    def _value(message: Any) -> Image:
        return Image(
            name=message.name,
            target=descriptor_of(message.target),
            labels=dict(message.labels),
            created_at=when(message.created_at),
            updated_at=when(message.updated_at),
        )

    @staticmethod
    def _message(image: Image) -> Any:
        return images_pb2.Image(
            name=image.name, labels=dict(image.labels), target=descriptor_from(image.target)
        )

    async def get(self, name: str) -> Image:
        answer = await self._call(self._stub.Get, images_pb2.GetImageRequest(name=name))
        return self._value(answer.image)

    async def list(self, *texts: str) -> builtins.list[Image]:
        request = images_pb2.ListImagesRequest(filters=texts)
        answer = await self._call(self._stub.List, request)
        return [self._value(one) for one in answer.images]

    async def create(self, image: Image) -> Image:
        request = images_pb2.CreateImageRequest(image=self._message(image))
        return self._value((await self._call(self._stub.Create, request)).image)

    async def update(self, image: Image, fields: Sequence[str] = ()) -> Image:
        request = images_pb2.UpdateImageRequest(
            image=self._message(image), update_mask=FieldMask(paths=fields) if fields else None
        )
        return self._value((await self._call(self._stub.Update, request)).image)

    async def delete(
        self, name: str, *, target: Descriptor | None = None, sync: bool = False
    ) -> None:
        request = images_pb2.DeleteImageRequest(
            name=name, sync=sync, target=descriptor_from(target) if target else None
        )
        await self._call(self._stub.Delete, request)


class RemoteLeases:
    """See `metadata.leases`."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._stub = LeasesStub(connection.channel)

    async def create(
        self,
        id: str = "",
        labels_: Mapping[str, str] | None = None,
        *,
        expire_s: float | None = None,
    ) -> Lease:
        labels = dict(labels_ or {})
        if expire_s is not None:
            until = datetime.now(UTC) + timedelta(seconds=expire_s)
            labels[_EXPIRE] = until.isoformat().replace("+00:00", "Z")
        request = leases_pb2.CreateRequest(id=id, labels=labels)
        made = (await self._call(self._stub.Create, request)).lease
        return Lease(made.id, dict(made.labels), when(made.created_at))

    async def list(self, *texts: str) -> builtins.list[Lease]:
        answer = await self._call(self._stub.List, leases_pb2.ListRequest(filters=texts))
        return [Lease(one.id, dict(one.labels), when(one.created_at)) for one in answer.leases]

    async def delete(self, id: str, *, sync: bool = False) -> None:
        await self._call(self._stub.Delete, leases_pb2.DeleteRequest(id=id, sync=sync))


class RemoteNamespaces:
    """See `metadata.namespaces`."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._stub = NamespacesStub(connection.channel)

    async def list(self, *texts: str) -> builtins.list[Namespace]:
        request = namespace_pb2.ListNamespacesRequest(filter=",".join(texts))
        answer = await self._call(self._stub.List, request)
        return [Namespace(one.name, dict(one.labels)) for one in answer.namespaces]
