"""A snapshotter behind containerd.services.snapshots.v1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as pb
from sampan.api.containerd.services.snapshots.v1.snapshots_grpc import SnapshotsStub
from sampan.engine.proxies.link import Link
from sampan.engine.schema import ProxyPlugin
from sampan.errors import Unimplemented
from sampan.model.mounts import Mount
from sampan.services.convert import mounts_of
from sampan.storage.snapshots import Info, Kind, Usage

__all__ = ["ProxySnapshotter"]

_KINDS: Final = {pb.VIEW: Kind.VIEW, pb.ACTIVE: Kind.ACTIVE, pb.COMMITTED: Kind.COMMITTED}


class ProxySnapshotter:
    """See `storage.snapshots.Snapshotter`. The other side knows it by `exports.snapshotter`."""

    def __init__(self, id: str, plugin: ProxyPlugin, address: str) -> None:
        self.name = id
        self.capabilities = frozenset(plugin.capabilities)
        self._link = Link(id, plugin, address)
        self._theirs = plugin.exports.get("snapshotter", id)

    def _stub(self) -> SnapshotsStub:
        return SnapshotsStub(self._link.channel)

    async def stat(self, key: str) -> Info:
        request = pb.StatSnapshotRequest(snapshotter=self._theirs, key=key)
        return _info((await self._link.call(self._stub().Stat, request, key)).info)

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        request = pb.UpdateSnapshotRequest(
            snapshotter=self._theirs,
            info=pb.Info(name=info.name, labels=dict(info.labels)),
            update_mask=FieldMask(paths=list(fieldpaths)) if fieldpaths else None,
        )
        return _info((await self._link.call(self._stub().Update, request, info.name)).info)

    async def usage(self, key: str) -> Usage:
        request = pb.UsageRequest(snapshotter=self._theirs, key=key)
        found = await self._link.call(self._stub().Usage, request, key)
        return Usage(inodes=found.inodes, size=found.size)

    async def mounts(self, key: str) -> list[Mount]:
        request = pb.MountsRequest(snapshotter=self._theirs, key=key)
        return mounts_of((await self._link.call(self._stub().Mounts, request, key)).mounts)

    async def prepare(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        request = pb.PrepareSnapshotRequest(
            snapshotter=self._theirs, key=key, parent=parent, labels=dict(labels or {})
        )
        return mounts_of((await self._link.call(self._stub().Prepare, request, key)).mounts)

    async def view(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        request = pb.ViewSnapshotRequest(
            snapshotter=self._theirs, key=key, parent=parent, labels=dict(labels or {})
        )
        return mounts_of((await self._link.call(self._stub().View, request, key)).mounts)

    async def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        request = pb.CommitSnapshotRequest(
            snapshotter=self._theirs,
            name=name,
            key=key,
            labels=dict(labels or {}),
            parent=parent or "",
        )
        await self._link.call(self._stub().Commit, request, key)

    async def remove(self, key: str) -> None:
        request = pb.RemoveSnapshotRequest(snapshotter=self._theirs, key=key)
        await self._link.call(self._stub().Remove, request, key)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        request = pb.ListSnapshotsRequest(snapshotter=self._theirs, filters=list(filters))
        async for message in self._link.listing(self._stub().List, request):
            for info in message.info:
                yield _info(info)

    async def cleanup(self) -> None:
        request = pb.CleanupRequest(snapshotter=self._theirs)
        try:
            await self._link.call(self._stub().Cleanup, request)
        except Unimplemented:
            return

    async def close(self) -> None:
        await self._link.close()


def _info(message: Any) -> Info:
    return Info(
        kind=_KINDS.get(message.kind, Kind.ACTIVE),
        name=message.name,
        parent=message.parent,
        created_at=message.created_at.ToDatetime(UTC),
        updated_at=message.updated_at.ToDatetime(UTC),
        labels=dict(message.labels),
    )
