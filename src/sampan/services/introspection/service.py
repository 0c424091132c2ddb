"""The gRPC face of the plugin graph and of the server's identity."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.rpc.status_pb2 import Status as RpcStatus

from sampan.api.containerd.services.introspection.v1 import introspection_pb2 as pb
from sampan.api.containerd.services.introspection.v1.introspection_grpc import IntrospectionBase
from sampan.api.containerd.types.introspection_pb2 import RuntimeInfo, RuntimeVersion
from sampan.api.containerd.types.platform_pb2 import Platform as PlatformMessage
from sampan.errors import NotFound
from sampan.model import filters
from sampan.model import platform as platforms
from sampan.plugin import Instance
from sampan.rpc.grpc import unary

__all__ = ["IntrospectionService"]

_UNKNOWN: Final = 2
_RUNTIME_TYPE: Final = "io.containerd.runtime.v2"
_FEATURES_URL: Final = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


@dataclass(frozen=True, slots=True)
class _Row:
    """A plugin as filters see it."""

    instance: Instance

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        registration = self.instance.registration
        match list(path):
            case ["type"]:
                return str(registration.type), True
            case ["id"]:
                return registration.id, True
            case ["capabilities"]:
                return ",".join(self.instance.capabilities), bool(self.instance.capabilities)
            case _:
                return "", False


class IntrospectionService(IntrospectionBase):
    """What clients ask before they decide how to work with us.

    `features` is asked once for the encoded JSON of the runtime's features (runtime-spec
    features.md), empty when it is not known.
    """

    def __init__(
        self,
        uuid: str,
        plugins: Sequence[Instance],
        features: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        self._uuid = uuid
        self._plugins = plugins
        self._ask = features
        self._features = b""

    @unary
    async def Plugins(self, request: pb.PluginsRequest) -> pb.PluginsResponse:
        wanted = filters.parse_all(request.filters)
        return pb.PluginsResponse(
            plugins=[_message(one) for one in self._plugins if wanted.match(_Row(one))]
        )

    @unary
    async def Server(self, request: Empty) -> pb.ServerResponse:
        return pb.ServerResponse(
            uuid=self._uuid, pid=os.getpid(), pidns=os.stat("/proc/self/ns/pid").st_ino
        )

    @unary
    async def PluginInfo(self, request: pb.PluginInfoRequest) -> pb.PluginInfoResponse:
        for one in self._plugins:
            registration = one.registration
            if (str(registration.type), registration.id) == (request.type, request.id):
                return pb.PluginInfoResponse(plugin=_message(one), extra=await self._extra(request))
        raise NotFound(f"plugin {request.type}.{request.id}: not found")

    async def _extra(self, request: pb.PluginInfoRequest) -> AnyMessage | None:
        if (request.type, request.id) != (_RUNTIME_TYPE, "task"):
            return None
        if not self._features and self._ask is not None:
            self._features = await self._ask()
        features = AnyMessage(type_url=_FEATURES_URL, value=self._features)
        info = RuntimeInfo(
            name="io.containerd.runc.v2",
            version=RuntimeVersion(version="1.0.0"),
            features=features if self._features else None,
        )
        extra = AnyMessage()
        extra.value = info.SerializeToString()
        extra.type_url = RuntimeInfo.DESCRIPTOR.full_name
        return extra


def _message(one: Instance) -> pb.Plugin:
    host = platforms.default()
    return pb.Plugin(
        type=str(one.registration.type),
        id=one.registration.id,
        requires=[str(needed) for needed in one.registration.requires],
        platforms=[
            PlatformMessage(os=host.os, architecture=host.architecture, variant=host.variant or "")
        ],
        exports=dict(one.exports),
        capabilities=list(one.capabilities),
        init_err=None if one.ok else RpcStatus(code=_UNKNOWN, message=one.init_err),
    )
