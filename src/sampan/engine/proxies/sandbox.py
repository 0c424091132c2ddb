"""A sandboxer behind containerd.services.sandbox.v1.Controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as pb
from sampan.api.containerd.services.sandbox.v1.sandbox_grpc import ControllerStub
from sampan.engine.proxies.link import Link
from sampan.engine.schema import ProxyPlugin
from sampan.errors import NotFound
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.model.platform import Platform
from sampan.rpc.messages import types
from sampan.rpc.messages.wellknown import Any as AnyWire
from sampan.runtime import Exit
from sampan.runtime.controller import SandboxStatus, Started
from sampan.services.convert import any_from, any_or_none, mounts_from

__all__ = ["ProxySandboxer"]

_CREATE_S: Final = 120.0
_STOP_S: Final = 30.0


class ProxySandboxer:
    """Does what `runtime.controller.SandboxController` does, by asking somebody else."""

    def __init__(self, id: str, plugin: ProxyPlugin, address: str) -> None:
        self._link = Link(id, plugin, address)
        self._theirs = plugin.exports.get("sandboxer", id)

    def _stub(self) -> ControllerStub:
        return ControllerStub(self._link.channel)

    async def create(
        self,
        id: str,
        *,
        runtime: str = "",
        runtime_options: Opaque | None = None,
        spec: bytes = b"",
        rootfs: Sequence[Mount] = (),
        options: Opaque | None = None,
        netns_path: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        request = pb.ControllerCreateRequest(
            sandbox_id=id,
            sandboxer=self._theirs,
            rootfs=mounts_from(rootfs),
            options=any_from(options),
            netns_path=netns_path,
            annotations=dict(annotations or {}),
        )
        request.sandbox.sandbox_id = id
        request.sandbox.runtime.name = runtime
        if runtime_options is not None:
            request.sandbox.runtime.options.type_url = runtime_options.type_url
            request.sandbox.runtime.options.value = runtime_options.value
        if spec:
            request.sandbox.spec.value = spec
        await self._link.call(self._stub().Create, request, timeout_s=_CREATE_S)

    async def start(self, id: str) -> Started:
        request = pb.ControllerStartRequest(sandbox_id=id, sandboxer=self._theirs)
        found = await self._link.call(self._stub().Start, request, timeout_s=_CREATE_S)
        return Started(found.pid, _ns(found.created_at), any_or_none(found, "spec"))

    async def platform(self, id: str) -> Platform:
        request = pb.ControllerPlatformRequest(sandbox_id=id, sandboxer=self._theirs)
        found = (await self._link.call(self._stub().Platform, request)).platform
        return Platform(os=found.os, architecture=found.architecture, variant=found.variant)

    async def stop(self, id: str, timeout_s: int = 0) -> None:
        request = pb.ControllerStopRequest(
            sandbox_id=id, sandboxer=self._theirs, timeout_secs=timeout_s
        )
        await self._link.call(self._stub().Stop, request, timeout_s=timeout_s + _STOP_S)

    async def wait(self, id: str) -> Exit:
        request = pb.ControllerWaitRequest(sandbox_id=id, sandboxer=self._theirs)
        found = await self._link.call(self._stub().Wait, request, timeout_s=None)
        return Exit(0, found.exit_status, _ns(found.exited_at))

    async def status(self, id: str, *, verbose: bool = False) -> SandboxStatus:
        request = pb.ControllerStatusRequest(sandbox_id=id, sandboxer=self._theirs, verbose=verbose)
        try:
            found = await self._link.call(self._stub().Status, request)
        except NotFound:
            return SandboxStatus(id)
        return SandboxStatus(
            id,
            found.pid,
            found.state,
            dict(found.info),
            _ns(found.created_at),
            _ns(found.exited_at),
            any_or_none(found, "extra"),
            found.address,
            found.version,
        )

    async def shutdown(self, id: str) -> None:
        request = pb.ControllerShutdownRequest(sandbox_id=id, sandboxer=self._theirs)
        await self._link.call(self._stub().Shutdown, request)

    async def metrics(self, id: str) -> types.Metric | None:
        request = pb.ControllerMetricsRequest(sandbox_id=id, sandboxer=self._theirs)
        found = await self._link.call(self._stub().Metrics, request)
        if not found.HasField("metrics"):
            return None
        data = found.metrics.data
        return types.Metric(
            id=found.metrics.id, data=AnyWire(type_url=data.type_url, value=data.value)
        )

    async def update(self, id: str) -> None:
        request = pb.ControllerUpdateRequest(sandbox_id=id, sandboxer=self._theirs)
        request.sandbox.sandbox_id = id
        await self._link.call(self._stub().Update, request)

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()


def _ns(moment: Any) -> int:
    return int(moment.seconds) * 1_000_000_000 + int(moment.nanos)
