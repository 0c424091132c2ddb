"""The gRPC face of applier and comparer."""

from __future__ import annotations

from sampan.api.containerd.services.diff.v1 import diff_pb2 as pb
from sampan.api.containerd.services.diff.v1.diff_grpc import DiffBase
from sampan.rpc.grpc import unary
from sampan.services.convert import descriptor_from, descriptor_of, mounts_of
from sampan.storage.diff import Applier, Comparer

__all__ = ["DiffService"]


class DiffService(DiffBase):
    """Payloads of encrypted layers are for stream processors, which decide by media type."""

    def __init__(self, applier: Applier, comparer: Comparer) -> None:
        self._applier = applier
        self._comparer = comparer

    @unary
    async def Apply(self, request: pb.ApplyRequest) -> pb.ApplyResponse:
        applied = await self._applier.apply(
            descriptor_of(request.diff), mounts_of(request.mounts), sync=request.sync_fs
        )
        return pb.ApplyResponse(applied=descriptor_from(applied))

    @unary
    async def Diff(self, request: pb.DiffRequest) -> pb.DiffResponse:
        epoch = request.source_date_epoch.seconds if request.HasField("source_date_epoch") else None
        made = await self._comparer.compare(
            mounts_of(request.left),
            mounts_of(request.right),
            media_type=request.media_type,
            ref=request.ref,
            labels=dict(request.labels),
            source_date_epoch=epoch,
        )
        return pb.DiffResponse(diff=descriptor_from(made))
