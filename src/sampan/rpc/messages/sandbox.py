"""The Sandbox service of shims.

Source: the .proto files of containerd's API, field by field.
"""

from __future__ import annotations

from sampan.rpc.messages.types import Metric, Mount, Platform
from sampan.rpc.messages.wellknown import Any, Timestamp
from sampan.rpc.wire import Message, boolean, mapping, message, repeated, string, uint32


class CreateSandboxRequest(Message, name="containerd.runtime.sandbox.v1.CreateSandboxRequest"):
    """`containerd.runtime.sandbox.v1.CreateSandboxRequest`."""

    sandbox_id: str = string(1)
    bundle_path: str = string(2)
    rootfs: list[Mount] = repeated(message(3, Mount))
    options: Any | None = message(4, Any)
    netns_path: str = string(5)
    annotations: dict[str, str] = mapping(6, string(1), string(2))


class CreateSandboxResponse(Message, name="containerd.runtime.sandbox.v1.CreateSandboxResponse"):
    """`containerd.runtime.sandbox.v1.CreateSandboxResponse`."""


class StartSandboxRequest(Message, name="containerd.runtime.sandbox.v1.StartSandboxRequest"):
    """`containerd.runtime.sandbox.v1.StartSandboxRequest`."""

    sandbox_id: str = string(1)


class StartSandboxResponse(Message, name="containerd.runtime.sandbox.v1.StartSandboxResponse"):
    """`containerd.runtime.sandbox.v1.StartSandboxResponse`."""

    pid: int = uint32(1)
    created_at: Timestamp | None = message(2, Timestamp)
    spec: Any | None = message(3, Any)


class PlatformRequest(Message, name="containerd.runtime.sandbox.v1.PlatformRequest"):
    """`containerd.runtime.sandbox.v1.PlatformRequest`."""

    sandbox_id: str = string(1)


class PlatformResponse(Message, name="containerd.runtime.sandbox.v1.PlatformResponse"):
    """`containerd.runtime.sandbox.v1.PlatformResponse`."""

    platform: Platform | None = message(1, Platform)


class StopSandboxRequest(Message, name="containerd.runtime.sandbox.v1.StopSandboxRequest"):
    """`containerd.runtime.sandbox.v1.StopSandboxRequest`."""

    sandbox_id: str = string(1)
    timeout_secs: int = uint32(2)


class StopSandboxResponse(Message, name="containerd.runtime.sandbox.v1.StopSandboxResponse"):
    """`containerd.runtime.sandbox.v1.StopSandboxResponse`."""


class UpdateSandboxRequest(Message, name="containerd.runtime.sandbox.v1.UpdateSandboxRequest"):
    """`containerd.runtime.sandbox.v1.UpdateSandboxRequest`."""

    sandbox_id: str = string(1)
    resources: Any | None = message(2, Any)
    annotations: dict[str, str] = mapping(3, string(1), string(2))


class WaitSandboxRequest(Message, name="containerd.runtime.sandbox.v1.WaitSandboxRequest"):
    """`containerd.runtime.sandbox.v1.WaitSandboxRequest`."""

    sandbox_id: str = string(1)


class WaitSandboxResponse(Message, name="containerd.runtime.sandbox.v1.WaitSandboxResponse"):
    """`containerd.runtime.sandbox.v1.WaitSandboxResponse`."""

    exit_status: int = uint32(1)
    exited_at: Timestamp | None = message(2, Timestamp)


class UpdateSandboxResponse(Message, name="containerd.runtime.sandbox.v1.UpdateSandboxResponse"):
    """`containerd.runtime.sandbox.v1.UpdateSandboxResponse`."""


class SandboxStatusRequest(Message, name="containerd.runtime.sandbox.v1.SandboxStatusRequest"):
    """`containerd.runtime.sandbox.v1.SandboxStatusRequest`."""

    sandbox_id: str = string(1)
    verbose: bool = boolean(2)


class SandboxStatusResponse(Message, name="containerd.runtime.sandbox.v1.SandboxStatusResponse"):
    """`containerd.runtime.sandbox.v1.SandboxStatusResponse`."""

    sandbox_id: str = string(1)
    pid: int = uint32(2)
    state: str = string(3)
    info: dict[str, str] = mapping(4, string(1), string(2))
    created_at: Timestamp | None = message(5, Timestamp)
    exited_at: Timestamp | None = message(6, Timestamp)
    extra: Any | None = message(7, Any)


class PingRequest(Message, name="containerd.runtime.sandbox.v1.PingRequest"):
    """`containerd.runtime.sandbox.v1.PingRequest`."""

    sandbox_id: str = string(1)


class PingResponse(Message, name="containerd.runtime.sandbox.v1.PingResponse"):
    """`containerd.runtime.sandbox.v1.PingResponse`."""


class ShutdownSandboxRequest(Message, name="containerd.runtime.sandbox.v1.ShutdownSandboxRequest"):
    """`containerd.runtime.sandbox.v1.ShutdownSandboxRequest`."""

    sandbox_id: str = string(1)


class ShutdownSandboxResponse(
    Message, name="containerd.runtime.sandbox.v1.ShutdownSandboxResponse"
):
    """`containerd.runtime.sandbox.v1.ShutdownSandboxResponse`."""


class SandboxMetricsRequest(Message, name="containerd.runtime.sandbox.v1.SandboxMetricsRequest"):
    """`containerd.runtime.sandbox.v1.SandboxMetricsRequest`."""

    sandbox_id: str = string(1)


class SandboxMetricsResponse(Message, name="containerd.runtime.sandbox.v1.SandboxMetricsResponse"):
    """`containerd.runtime.sandbox.v1.SandboxMetricsResponse`."""

    metrics: Metric | None = message(1, Metric)


METHODS: dict[str, tuple[type[Message], type[Message]]] = {
    "CreateSandbox": (CreateSandboxRequest, CreateSandboxResponse),
    "StartSandbox": (StartSandboxRequest, StartSandboxResponse),
    "Platform": (PlatformRequest, PlatformResponse),
    "StopSandbox": (StopSandboxRequest, StopSandboxResponse),
    "WaitSandbox": (WaitSandboxRequest, WaitSandboxResponse),
    "SandboxStatus": (SandboxStatusRequest, SandboxStatusResponse),
    "PingSandbox": (PingRequest, PingResponse),
    "ShutdownSandbox": (ShutdownSandboxRequest, ShutdownSandboxResponse),
    "SandboxMetrics": (SandboxMetricsRequest, SandboxMetricsResponse),
}
"""Request and answer of each method."""

SERVICE = "containerd.runtime.sandbox.v1.Sandbox"
