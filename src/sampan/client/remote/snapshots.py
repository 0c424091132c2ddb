"""Snapshots and blobs of the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from google.protobuf.field_mask_pb2 import FieldMask

from sampan.api.containerd.services.content.v1 import content_pb2
from sampan.api.containerd.services.content.v1.content_grpc import ContentStub
from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as pb
from sampan.api.containerd.services.snapshots.v1.snapshots_grpc import SnapshotsStub
from sampan.client.remote.channel import Connection
from sampan.client.remote.stores import when
from sampan.errors import Unimplemented
from sampan.model.digest import Digest
from sampan.model.mounts import Mount
from sampan.services.convert import mounts_of
from sampan.storage.snapshots import Info, Kind, Usage

__all__ = ["RemoteContent", "RemoteSnapshots"]

_KINDS = {1: Kind.VIEW, 2: Kind.ACTIVE, 3: Kind.COMMITTED}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


class RemoteSnapshots:
    """See `storage.snapshots.Snapshotter`."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.name = name
        self.capabilities: frozenset[str] = frozenset()
        self._connection = connection
        self._call = connection.call
        self._stub = SnapshotsStub(connection.channel)

    @staticmethod
    def _info(message: Any) -> Info:
        return Info(
            _KINDS[message.kind],
            message.name,
            message.parent,
            when(message.created_at),
            when(message.updated_at),
            dict(message.labels),
        )

    async def stat(self, key: str) -> Info:
        request = pb.StatSnapshotRequest(snapshotter=self.name, key=key)
        return self._info((await self._call(self._stub.Stat, request)).info)

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        message = pb.Info(
            name=info.name,
            parent=info.parent,
            kind=_NUMBERS[info.kind],  # type: ignore[arg-type]
            labels=dict(info.labels),
        )
        request = pb.UpdateSnapshotRequest(
            snapshotter=self.name,
            info=message,
            update_mask=FieldMask(paths=fieldpaths) if fieldpaths else None,
        )
        return self._info((await self._call(self._stub.Update, request)).info)

    async def usage(self, key: str) -> Usage:
        request = pb.UsageRequest(snapshotter=self.name, key=key)
        answer = await self._call(self._stub.Usage, request)
        return Usage(answer.inodes, answer.size)

    async def mounts(self, key: str) -> list[Mount]:
        request = pb.MountsRequest(snapshotter=self.name, key=key)
        return mounts_of((await self._call(self._stub.Mounts, request)).mounts)

    async def prepare(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        request = pb.PrepareSnapshotRequest(
            snapshotter=self.name, key=key, parent=parent, labels=dict(labels or {})
        )
        return mounts_of((await self._call(self._stub.Prepare, request)).mounts)

    async def view(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        request = pb.ViewSnapshotRequest(
            snapshotter=self.name, key=key, parent=parent, labels=dict(labels or {})
        )
        return mounts_of((await self._call(self._stub.View, request)).mounts)

    async def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        request = pb.CommitSnapshotRequest(
            snapshotter=self.name,
            name=name,
            key=key,
            labels=dict(labels or {}),
            parent=parent or "",
        )
        await self._call(self._stub.Commit, request)

    async def remove(self, key: str) -> None:
        request = pb.RemoveSnapshotRequest(snapshotter=self.name, key=key)
        await self._call(self._stub.Remove, request)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        request = pb.ListSnapshotsRequest(snapshotter=self.name, filters=filters)
        async for answer in self._connection.stream(self._stub.List, request):
            for one in answer.info:
                yield self._info(one)

    async def cleanup(self) -> None:
        await self._call(self._stub.Cleanup, pb.CleanupRequest(snapshotter=self.name))

    async def close(self) -> None:
        """Do nothing: the snapshotter is the daemon's."""


class RemoteContent:
    """Reading of `storage.content`; writing is the daemon's, by its Transfer service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = ContentStub(connection.channel)

    async def reader(self, digest: Digest) -> _Reader:
        """Return a blob's reader; NotFound is raised by the first reading."""
        return _Reader(self._connection, self._stub, digest)

    async def writer(self, ref: str, **more: Any) -> Any:
        """Raise Unimplemented."""
        del more
        raise Unimplemented(
            f"blob {ref!r} cannot be written through the daemon yet: use in_process"
        )


class _Reader:
    def __init__(self, connection: Connection, stub: ContentStub, digest: Digest) -> None:
        self._connection = connection
        self._stub = stub
        self._digest = digest

    async def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`."""
        request = content_pb2.ReadContentRequest(digest=self._digest, offset=offset, size=size)
        found = bytearray()
        async for answer in self._connection.stream(self._stub.Read, request):
            found += answer.data
        return bytes(found[:size])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return
