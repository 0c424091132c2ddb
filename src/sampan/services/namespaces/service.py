"""The gRPC face of namespaces. Its calls need no namespace header."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.namespaces.v1 import namespace_pb2 as pb
from sampan.api.containerd.services.namespaces.v1.namespace_grpc import NamespacesBase
from sampan.errors import InvalidArgument, NotFound
from sampan.metadata import Metadata, Namespace
from sampan.rpc.grpc import unary
from sampan.services.convert import mask_of

__all__ = ["NamespacesService"]


class NamespacesService(NamespacesBase):
    """Namespaces and their labels."""

    def __init__(self, metadata: Metadata) -> None:
        self._namespaces = metadata.namespaces

    @unary
    async def Get(self, request: pb.GetNamespaceRequest) -> pb.GetNamespaceResponse:
        try:
            found = await self._namespaces.get(request.name)
        except (NotFound, InvalidArgument):
            # containerd knows every name: clients ask for the labels before anything exists.
            found = Namespace(request.name)
        return pb.GetNamespaceResponse(namespace=_message(found))

    @unary
    async def List(self, request: pb.ListNamespacesRequest) -> pb.ListNamespacesResponse:
        found = await self._namespaces.list(*([request.filter] if request.filter else []))
        return pb.ListNamespacesResponse(namespaces=[_message(one) for one in found])

    @unary
    async def Create(self, request: pb.CreateNamespaceRequest) -> pb.CreateNamespaceResponse:
        wanted = request.namespace
        made = await self._namespaces.create(wanted.name, dict(wanted.labels))
        return pb.CreateNamespaceResponse(namespace=_message(made))

    @unary
    async def Update(self, request: pb.UpdateNamespaceRequest) -> pb.UpdateNamespaceResponse:
        wanted = request.namespace
        now = await self._namespaces.update(wanted.name, dict(wanted.labels), mask_of(request))
        return pb.UpdateNamespaceResponse(namespace=_message(now))

    @unary
    async def Delete(self, request: pb.DeleteNamespaceRequest) -> Empty:
        await self._namespaces.delete(request.name)
        return Empty()


def _message(value: Namespace) -> pb.Namespace:
    return pb.Namespace(name=value.name, labels=dict(value.labels))
