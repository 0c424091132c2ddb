"""The gRPC face of sandbox records: the Store. Running sandboxes is the Controller's."""

from __future__ import annotations

from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as pb
from sampan.api.containerd.services.sandbox.v1.sandbox_grpc import StoreBase
from sampan.metadata import Metadata
from sampan.rpc.grpc import unary
from sampan.services.sandboxes.convert import sandbox_from, sandbox_of

__all__ = ["SandboxesService"]


class SandboxesService(StoreBase):
    """Spec and extensions pass through byte for byte."""

    def __init__(self, metadata: Metadata) -> None:
        self._sandboxes = metadata.sandboxes

    @unary
    async def Create(self, request: pb.StoreCreateRequest) -> pb.StoreCreateResponse:
        made = await self._sandboxes.create(sandbox_of(request.sandbox))
        return pb.StoreCreateResponse(sandbox=sandbox_from(made))

    @unary
    async def Update(self, request: pb.StoreUpdateRequest) -> pb.StoreUpdateResponse:
        now = await self._sandboxes.update(sandbox_of(request.sandbox), tuple(request.fields))
        return pb.StoreUpdateResponse(sandbox=sandbox_from(now))

    @unary
    async def Delete(self, request: pb.StoreDeleteRequest) -> pb.StoreDeleteResponse:
        await self._sandboxes.delete(request.sandbox_id)
        return pb.StoreDeleteResponse()

    @unary
    async def List(self, request: pb.StoreListRequest) -> pb.StoreListResponse:
        found = await self._sandboxes.list(*request.filters)
        return pb.StoreListResponse(list=[sandbox_from(one) for one in found])

    @unary
    async def Get(self, request: pb.StoreGetRequest) -> pb.StoreGetResponse:
        found = await self._sandboxes.get(request.sandbox_id)
        return pb.StoreGetResponse(sandbox=sandbox_from(found))
