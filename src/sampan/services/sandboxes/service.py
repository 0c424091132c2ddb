"""The gRPC face of sandbox records: the Store. Running sandboxes is the Controller's."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as pb
from sampan.api.containerd.services.sandbox.v1.sandbox_grpc import StoreBase
from sampan.api.containerd.types.sandbox_pb2 import Sandbox as SandboxMessage
from sampan.metadata import Metadata, Runtime, Sandbox
from sampan.rpc.grpc import unary
from sampan.services.convert import any_from, any_of, any_or_none, opaques_of, timestamp

__all__ = ["SandboxesService"]


class SandboxesService(StoreBase):
    """Spec and extensions pass through byte for byte."""

    def __init__(self, metadata: Metadata) -> None:
        self._sandboxes = metadata.sandboxes

    @unary
    async def Create(self, request: pb.StoreCreateRequest) -> pb.StoreCreateResponse:
        made = await self._sandboxes.create(_value(request.sandbox))
        return pb.StoreCreateResponse(sandbox=_message(made))

    @unary
    async def Update(self, request: pb.StoreUpdateRequest) -> pb.StoreUpdateResponse:
        now = await self._sandboxes.update(_value(request.sandbox), tuple(request.fields))
        return pb.StoreUpdateResponse(sandbox=_message(now))

    @unary
    async def Delete(self, request: pb.StoreDeleteRequest) -> pb.StoreDeleteResponse:
        await self._sandboxes.delete(request.sandbox_id)
        return pb.StoreDeleteResponse()

    @unary
    async def List(self, request: pb.StoreListRequest) -> pb.StoreListResponse:
        found = await self._sandboxes.list(*request.filters)
        return pb.StoreListResponse(list=[_message(one) for one in found])

    @unary
    async def Get(self, request: pb.StoreGetRequest) -> pb.StoreGetResponse:
        found = await self._sandboxes.get(request.sandbox_id)
        return pb.StoreGetResponse(sandbox=_message(found))


def _message(value: Sandbox) -> SandboxMessage:
    return SandboxMessage(
        sandbox_id=value.id,
        runtime=SandboxMessage.Runtime(
            name=value.runtime.name, options=any_from(value.runtime.options)
        ),
        spec=any_from(value.spec),
        labels=dict(value.labels),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        extensions={key: any_from(one) or AnyMessage() for key, one in value.extensions.items()},
        sandboxer=value.sandboxer,
    )


def _value(message: SandboxMessage) -> Sandbox:
    return Sandbox(
        id=message.sandbox_id,
        runtime=Runtime(message.runtime.name, any_or_none(message.runtime, "options")),
        spec=any_of(message.spec),
        labels=dict(message.labels),
        extensions=opaques_of(message.extensions),
        sandboxer=message.sandboxer,
    )
