"""Types that several services share.

Source: the .proto files of containerd's API, field by field.
"""

from __future__ import annotations

from sampan.rpc.messages.wellknown import Any, Timestamp
from sampan.rpc.wire import (
    Message,
    boolean,
    byte_string,
    enum,
    int64,
    mapping,
    message,
    repeated,
    string,
    uint32,
)


class Platform(Message, name="containerd.types.Platform"):
    """`containerd.types.Platform`."""

    os: str = string(1)
    architecture: str = string(2)
    variant: str = string(3)
    os_version: str = string(4)
    os_features: list[str] = repeated(string(5))


class Envelope(Message, name="containerd.types.Envelope"):
    """`containerd.types.Envelope`."""

    timestamp: Timestamp | None = message(1, Timestamp)
    namespace: str = string(2)
    topic: str = string(3)
    event: Any | None = message(4, Any)


class SandboxRuntime(Message, name="containerd.types.Sandbox.Runtime"):
    """`containerd.types.Sandbox.Runtime`."""

    name: str = string(1)
    options: Any | None = message(2, Any)


class Sandbox(Message, name="containerd.types.Sandbox"):
    """`containerd.types.Sandbox`."""

    sandbox_id: str = string(1)
    runtime: SandboxRuntime | None = message(2, SandboxRuntime)
    spec: Any | None = message(3, Any)
    labels: dict[str, str] = mapping(4, string(1), string(2))
    created_at: Timestamp | None = message(5, Timestamp)
    updated_at: Timestamp | None = message(6, Timestamp)
    extensions: dict[str, Any] = mapping(7, string(1), message(2, Any))
    sandboxer: str = string(10)


class Metric(Message, name="containerd.types.Metric"):
    """`containerd.types.Metric`."""

    timestamp: Timestamp | None = message(1, Timestamp)
    id: str = string(2)
    data: Any | None = message(3, Any)


class Mount(Message, name="containerd.types.Mount"):
    """`containerd.types.Mount`."""

    type: str = string(1)
    source: str = string(2)
    target: str = string(3)
    options: list[str] = repeated(string(4))


class ActiveMount(Message, name="containerd.types.ActiveMount"):
    """`containerd.types.ActiveMount`."""

    mount: Mount | None = message(1, Mount)
    mounted_at: Timestamp | None = message(2, Timestamp)
    mount_point: str = string(3)
    data: dict[str, str] = mapping(4, string(1), string(2))


class ActivationInfo(Message, name="containerd.types.ActivationInfo"):
    """`containerd.types.ActivationInfo`."""

    name: str = string(1)
    active: list[ActiveMount] = repeated(message(2, ActiveMount))
    system: list[Mount] = repeated(message(3, Mount))
    labels: dict[str, str] = mapping(4, string(1), string(2))


class RuntimeRequest(Message, name="containerd.types.RuntimeRequest"):
    """`containerd.types.RuntimeRequest`."""

    runtime_path: str = string(1)
    options: Any | None = message(2, Any)


class RuntimeVersion(Message, name="containerd.types.RuntimeVersion"):
    """`containerd.types.RuntimeVersion`."""

    version: str = string(1)
    revision: str = string(2)


class RuntimeInfo(Message, name="containerd.types.RuntimeInfo"):
    """`containerd.types.RuntimeInfo`."""

    name: str = string(1)
    version: RuntimeVersion | None = message(2, RuntimeVersion)
    options: Any | None = message(3, Any)
    features: Any | None = message(4, Any)
    annotations: dict[str, str] = mapping(5, string(1), string(2))


class Descriptor(Message, name="containerd.types.Descriptor"):
    """`containerd.types.Descriptor`."""

    media_type: str = string(1)
    digest: str = string(2)
    size: int = int64(3)
    annotations: dict[str, str] = mapping(5, string(1), string(2))


class Status:
    """Values of `containerd.v1.types.Status`."""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


class Process(Message, name="containerd.v1.types.Process"):
    """`containerd.v1.types.Process`."""

    container_id: str = string(1)
    id: str = string(2)
    pid: int = uint32(3)
    status: int = enum(4)
    stdin: str = string(5)
    stdout: str = string(6)
    stderr: str = string(7)
    terminal: bool = boolean(8)
    exit_status: int = uint32(9)
    exited_at: Timestamp | None = message(10, Timestamp)


class ProcessInfo(Message, name="containerd.v1.types.ProcessInfo"):
    """`containerd.v1.types.ProcessInfo`."""

    pid: int = uint32(1)
    info: Any | None = message(2, Any)


class Options(Message, name="runtimeoptions.v1.Options"):
    """`runtimeoptions.v1.Options`."""

    type_url: str = string(1)
    config_path: str = string(2)
    config_body: bytes = byte_string(3)
