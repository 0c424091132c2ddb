"""The gRPC face of sandboxers: it picks one by name, and tells everybody what became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sampan import context
from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as pb
from sampan.api.containerd.services.sandbox.v1.sandbox_grpc import ControllerBase
from sampan.api.containerd.types.metrics_pb2 import Metric
from sampan.api.containerd.types.platform_pb2 import Platform as PlatformMessage
from sampan.errors import InvalidArgument, NotFound, SampanError, Unknown
from sampan.events import Event, Publisher
from sampan.rpc.grpc import unary
from sampan.runtime.controller import SandboxController
from sampan.services.convert import any_from, any_or_none, mounts_of, timestamp_ns
from sampan.services.sandboxes.convert import sandbox_of

__all__ = ["ControllerService"]


class ControllerService(ControllerBase):
    """Sandboxers by name; there is one, `shim`."""

    def __init__(self, sandboxers: Mapping[str, SandboxController], events: Publisher) -> None:
        self._sandboxers = sandboxers
        self._events = events
        self._ended: set[tuple[str, str]] = set()

    @unary
    async def Create(self, request: pb.ControllerCreateRequest) -> pb.ControllerCreateResponse:
        sandboxer = self._named(request.sandboxer)
        given = sandbox_of(request.sandbox) if request.HasField("sandbox") else None
        sandbox_id = given.id if given and given.id else request.sandbox_id
        await sandboxer.create(
            sandbox_id,
            runtime=given.runtime.name if given else "",
            runtime_options=given.runtime.options if given else None,
            spec=given.spec.value if given else b"",
            rootfs=mounts_of(request.rootfs),
            options=any_or_none(request, "options"),
            netns_path=request.netns_path,
            annotations=dict(request.annotations),
        )
        self._ended.discard((context.namespace(), sandbox_id))
        self._tell("create", "SandboxCreate", sandbox_id)
        return pb.ControllerCreateResponse(sandbox_id=sandbox_id)

    @unary
    async def Start(self, request: pb.ControllerStartRequest) -> pb.ControllerStartResponse:
        sandbox_id = request.sandbox_id
        try:
            started = await self._named(request.sandboxer).start(sandbox_id)
        except SampanError as err:
            raise type(err)(f'failed to start sandbox "{sandbox_id}": {err}') from err
        self._tell("start", "SandboxStart", sandbox_id)
        return pb.ControllerStartResponse(
            sandbox_id=sandbox_id,
            pid=started.pid,
            created_at=timestamp_ns(started.created_at_ns),
            spec=any_from(started.spec),
        )

    @unary
    async def Platform(
        self, request: pb.ControllerPlatformRequest
    ) -> pb.ControllerPlatformResponse:
        found = await self._named(request.sandboxer).platform(request.sandbox_id)
        return pb.ControllerPlatformResponse(
            platform=PlatformMessage(
                os=found.os, architecture=found.architecture, variant=found.variant
            )
        )

    @unary
    async def Stop(self, request: pb.ControllerStopRequest) -> pb.ControllerStopResponse:
        await self._named(request.sandboxer).stop(request.sandbox_id, request.timeout_secs)
        return pb.ControllerStopResponse()

    @unary
    async def Wait(self, request: pb.ControllerWaitRequest) -> pb.ControllerWaitResponse:
        sandbox_id = request.sandbox_id
        ended = await self._named(request.sandboxer).wait(sandbox_id)
        key = (context.namespace(), sandbox_id)
        if key not in self._ended:
            # However many wait, it ends once.
            self._ended.add(key)
            self._tell(
                "exit",
                "SandboxExit",
                sandbox_id,
                exit_status=ended.status,
                exited_at=ended.exited_at_ns,
            )
        return pb.ControllerWaitResponse(
            exit_status=ended.status, exited_at=timestamp_ns(ended.exited_at_ns)
        )

    @unary
    async def Status(self, request: pb.ControllerStatusRequest) -> pb.ControllerStatusResponse:
        found = await self._named(request.sandboxer).status(
            request.sandbox_id, verbose=request.verbose
        )
        return pb.ControllerStatusResponse(
            sandbox_id=found.id,
            pid=found.pid,
            state=found.state,
            info=dict(found.info),
            created_at=timestamp_ns(found.created_at_ns),
            exited_at=timestamp_ns(found.exited_at_ns),
            extra=any_from(found.extra),
            address=found.address,
            version=found.version,
        )

    @unary
    async def Shutdown(
        self, request: pb.ControllerShutdownRequest
    ) -> pb.ControllerShutdownResponse:
        await self._named(request.sandboxer).shutdown(request.sandbox_id)
        self._ended.discard((context.namespace(), request.sandbox_id))
        return pb.ControllerShutdownResponse()

    @unary
    async def Metrics(self, request: pb.ControllerMetricsRequest) -> pb.ControllerMetricsResponse:
        found = await self._named(request.sandboxer).metrics(request.sandbox_id)
        if found is None:
            return pb.ControllerMetricsResponse()
        metric = Metric(id=found.id, timestamp=timestamp_ns(time.time_ns()))
        if found.data is not None:
            metric.data.type_url, metric.data.value = found.data.type_url, found.data.value
        return pb.ControllerMetricsResponse(metrics=metric)

    @unary
    async def Update(self, request: pb.ControllerUpdateRequest) -> pb.ControllerUpdateResponse:
        sandboxer = self._named(request.sandboxer)
        if not request.HasField("sandbox"):
            raise Unknown("sandbox can not be nil")
        await sandboxer.update(request.sandbox_id)
        return pb.ControllerUpdateResponse()

    def _named(self, name: str) -> SandboxController:
        if not name:
            raise InvalidArgument("sandbox controller name can not be empty: invalid argument")
        if name not in self._sandboxers:
            raise NotFound(f"failed to get sandbox controller by {name}: not found")
        return self._sandboxers[name]

    def _tell(self, what: str, message: str, id: str, **fields: object) -> None:
        event = Event(f"containerd.events.{message}", {"sandbox_id": id, **fields})
        self._events.publish(f"/sandboxes/{what}", event)
