"""The gRPC face of snapshotters: it converts, picks one by name, and decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as pb
from sampan.api.containerd.services.snapshots.v1.snapshots_grpc import SnapshotsBase
from sampan.errors import InvalidArgument, NotFound
from sampan.metadata import Metadata
from sampan.rpc.grpc import streaming, unary
from sampan.services.convert import mask_of, mounts_from, timestamp
from sampan.storage.snapshots import Info, Kind, Snapshotter

__all__ = ["SnapshotsService"]

_KINDS: Final = {Kind.VIEW: pb.VIEW, Kind.ACTIVE: pb.ACTIVE, Kind.COMMITTED: pb.COMMITTED}
_PAGE: Final = 100
"""Infos in one message of List, as containerd has it."""


class SnapshotsService(SnapshotsBase):
    """Every call names its snapshotter; an empty name is an error, as there."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    @unary
    async def Prepare(self, request: pb.PrepareSnapshotRequest) -> pb.PrepareSnapshotResponse:
        mounts = await self._named(request.snapshotter).prepare(
            request.key, request.parent, labels=dict(request.labels)
        )
        return pb.PrepareSnapshotResponse(mounts=mounts_from(mounts))

    @unary
    async def View(self, request: pb.ViewSnapshotRequest) -> pb.ViewSnapshotResponse:
        mounts = await self._named(request.snapshotter).view(
            request.key, request.parent, labels=dict(request.labels)
        )
        return pb.ViewSnapshotResponse(mounts=mounts_from(mounts))

    @unary
    async def Mounts(self, request: pb.MountsRequest) -> pb.MountsResponse:
        mounts = await self._named(request.snapshotter).mounts(request.key)
        return pb.MountsResponse(mounts=mounts_from(mounts))

    @unary
    async def Commit(self, request: pb.CommitSnapshotRequest) -> Empty:
        await self._named(request.snapshotter).commit(
            request.name,
            request.key,
            labels=dict(request.labels),
            parent=request.parent or None,
        )
        return Empty()

    @unary
    async def Remove(self, request: pb.RemoveSnapshotRequest) -> Empty:
        await self._named(request.snapshotter).remove(request.key)
        return Empty()

    @unary
    async def Stat(self, request: pb.StatSnapshotRequest) -> pb.StatSnapshotResponse:
        return pb.StatSnapshotResponse(
            info=_message(await self._named(request.snapshotter).stat(request.key))
        )

    @unary
    async def Update(self, request: pb.UpdateSnapshotRequest) -> pb.UpdateSnapshotResponse:
        now = await self._named(request.snapshotter).update(_value(request.info), mask_of(request))
        return pb.UpdateSnapshotResponse(info=_message(now))

    @streaming
    async def List(
        self, request: pb.ListSnapshotsRequest
    ) -> AsyncIterator[pb.ListSnapshotsResponse]:
        page: list[pb.Info] = []
        async for info in self._named(request.snapshotter).walk(tuple(request.filters)):
            page.append(_message(info))
            if len(page) == _PAGE:
                yield pb.ListSnapshotsResponse(info=page)
                page = []
        if page:
            yield pb.ListSnapshotsResponse(info=page)

    @unary
    async def Usage(self, request: pb.UsageRequest) -> pb.UsageResponse:
        usage = await self._named(request.snapshotter).usage(request.key)
        return pb.UsageResponse(size=usage.size, inodes=usage.inodes)

    @unary
    async def Cleanup(self, request: pb.CleanupRequest) -> Empty:
        await self._named(request.snapshotter).cleanup()
        return Empty()

    def _named(self, name: str) -> Snapshotter:
        if not name:
            raise InvalidArgument("snapshotter argument missing")
        try:
            return self._metadata.snapshotter(name)
        except NotFound as err:
            # containerd answers INVALID_ARGUMENT here, not NOT_FOUND.
            raise InvalidArgument(f"snapshotter not loaded: {name}") from err


def _message(info: Info) -> pb.Info:
    return pb.Info(
        name=info.name,
        parent=info.parent,
        kind=_KINDS[info.kind],
        created_at=timestamp(info.created_at),
        updated_at=timestamp(info.updated_at),
        labels=dict(info.labels),
    )


def _value(message: pb.Info) -> Info:
    never = datetime.fromtimestamp(0, UTC)
    kinds = {number: kind for kind, number in _KINDS.items()}
    return Info(
        kinds.get(message.kind, Kind.ACTIVE),
        message.name,
        message.parent,
        never,
        never,
        dict(message.labels),
    )
