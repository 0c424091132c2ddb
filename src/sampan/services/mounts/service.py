"""The gRPC face of the mount manager."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.mounts.v1 import mounts_pb2 as pb
from sampan.api.containerd.services.mounts.v1.mounts_grpc import MountsBase
from sampan.rpc.grpc import streaming, unary
from sampan.runtime.mounting import MountManager
from sampan.services.convert import mask_of, mounts_of
from sampan.services.mounts.convert import activation_from, activation_of

__all__ = ["MountsService"]


class MountsService(MountsBase):
    """Activations of the request's namespace."""

    def __init__(self, mounts: MountManager) -> None:
        self._mounts = mounts

    @unary
    async def Activate(self, request: pb.ActivateRequest) -> pb.ActivateResponse:
        made = await self._mounts.activate(
            request.name,
            mounts_of(request.mounts),
            labels=dict(request.labels),
            temporary=request.temporary,
        )
        return pb.ActivateResponse(info=activation_from(made))

    @unary
    async def Deactivate(self, request: pb.DeactivateRequest) -> Empty:
        await self._mounts.deactivate(request.name)
        return Empty()

    @unary
    async def Info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        return pb.InfoResponse(info=activation_from(await self._mounts.info(request.name)))

    @unary
    async def Update(self, request: pb.UpdateRequest) -> pb.UpdateResponse:
        now = await self._mounts.update(activation_of(request.info), mask_of(request))
        return pb.UpdateResponse(info=activation_from(now))

    @streaming
    async def List(self, request: pb.ListRequest) -> AsyncIterator[pb.ListMessage]:
        for one in await self._mounts.list(*request.filters):
            yield pb.ListMessage(info=activation_from(one))
