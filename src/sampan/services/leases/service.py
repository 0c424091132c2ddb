"""The gRPC face of leases."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.leases.v1 import leases_pb2 as pb
from sampan.api.containerd.services.leases.v1.leases_grpc import LeasesBase
from sampan.metadata import Lease, Metadata, Resource
from sampan.rpc.grpc import unary
from sampan.services.convert import timestamp

__all__ = ["LeasesService"]


class LeasesService(LeasesBase):
    """Leases and the resources they hold."""

    def __init__(self, metadata: Metadata) -> None:
        self._leases = metadata.leases

    @unary
    async def Create(self, request: pb.CreateRequest) -> pb.CreateResponse:
        made = await self._leases.create(request.id, dict(request.labels))
        return pb.CreateResponse(lease=_message(made))

    @unary
    async def Delete(self, request: pb.DeleteRequest) -> Empty:
        await self._leases.delete(request.id, sync=request.sync)
        return Empty()

    @unary
    async def List(self, request: pb.ListRequest) -> pb.ListResponse:
        found = await self._leases.list(*request.filters)
        return pb.ListResponse(leases=[_message(one) for one in found])

    @unary
    async def AddResource(self, request: pb.AddResourceRequest) -> Empty:
        await self._leases.add_resource(request.id, _resource(request.resource))
        return Empty()

    @unary
    async def DeleteResource(self, request: pb.DeleteResourceRequest) -> Empty:
        await self._leases.remove_resource(request.id, _resource(request.resource))
        return Empty()

    @unary
    async def ListResources(self, request: pb.ListResourcesRequest) -> pb.ListResourcesResponse:
        found = await self._leases.resources(request.id)
        return pb.ListResourcesResponse(
            resources=[pb.Resource(id=one.id, type=one.type) for one in found]
        )


def _message(value: Lease) -> pb.Lease:
    return pb.Lease(id=value.id, created_at=timestamp(value.created_at), labels=dict(value.labels))


def _resource(message: pb.Resource) -> Resource:
    return Resource(message.type, message.id)
