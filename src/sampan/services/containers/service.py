"""The gRPC face of container records."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.containers.v1 import containers_pb2 as pb
from sampan.api.containerd.services.containers.v1.containers_grpc import ContainersBase
from sampan.metadata import Metadata
from sampan.rpc.grpc import streaming, unary
from sampan.services.containers.convert import container_from, container_of
from sampan.services.convert import mask_of

__all__ = ["ContainersService"]


class ContainersService(ContainersBase):
    """Records; what runs is the business of `tasks`."""

    def __init__(self, metadata: Metadata) -> None:
        self._containers = metadata.containers

    @unary
    async def Get(self, request: pb.GetContainerRequest) -> pb.GetContainerResponse:
        found = await self._containers.get(request.id)
        return pb.GetContainerResponse(container=container_from(found))

    @unary
    async def List(self, request: pb.ListContainersRequest) -> pb.ListContainersResponse:
        found = await self._containers.list(*request.filters)
        return pb.ListContainersResponse(containers=[container_from(one) for one in found])

    @streaming
    async def ListStream(
        self, request: pb.ListContainersRequest
    ) -> AsyncIterator[pb.ListContainerMessage]:
        for one in await self._containers.list(*request.filters):
            yield pb.ListContainerMessage(container=container_from(one))

    @unary
    async def Create(self, request: pb.CreateContainerRequest) -> pb.CreateContainerResponse:
        made = await self._containers.create(container_of(request.container))
        return pb.CreateContainerResponse(container=container_from(made))

    @unary
    async def Update(self, request: pb.UpdateContainerRequest) -> pb.UpdateContainerResponse:
        now = await self._containers.update(container_of(request.container), mask_of(request))
        return pb.UpdateContainerResponse(container=container_from(now))

    @unary
    async def Delete(self, request: pb.DeleteContainerRequest) -> Empty:
        await self._containers.delete(request.id)
        return Empty()
