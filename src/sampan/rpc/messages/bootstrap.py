"""How containerd 2.3 starts a shim.

Source: the .proto files of containerd's API, field by field.
"""

from __future__ import annotations

from sampan.rpc.messages.wellknown import Any
from sampan.rpc.wire import Message, enum, int32, mapping, message, optional, repeated, string


class LogLevel:
    """Values of `containerd.runtime.bootstrap.v1.LogLevel`."""

    LOG_LEVEL_INFO = 0
    LOG_LEVEL_TRACE = -8
    LOG_LEVEL_DEBUG = -4
    LOG_LEVEL_WARN = 4
    LOG_LEVEL_ERROR = 8
    LOG_LEVEL_FATAL = 10
    LOG_LEVEL_PANIC = 12


class Extension(Message, name="containerd.runtime.bootstrap.v1.Extension"):
    """`containerd.runtime.bootstrap.v1.Extension`."""

    value: Any | None = message(1, Any)


class BootstrapParams(Message, name="containerd.runtime.bootstrap.v1.BootstrapParams"):
    """`containerd.runtime.bootstrap.v1.BootstrapParams`."""

    instance_id: str = string(1)
    namespace: str = string(2)
    log_level: int = enum(3)
    containerd_version: str = string(4)
    containerd_ttrpc_address: str = string(5)
    containerd_grpc_address: str = string(6)
    containerd_binary: str = string(7)
    extensions: list[Extension] = repeated(message(8, Extension))
    socket_dir: str | None = optional(string(9))


class Capability:
    """Values of `containerd.runtime.bootstrap.v1.Capability`."""

    CAPABILITY_UNSPECIFIED = 0


class BootstrapResult(Message, name="containerd.runtime.bootstrap.v1.BootstrapResult"):
    """`containerd.runtime.bootstrap.v1.BootstrapResult`."""

    version: int = int32(1)
    address: str = string(2)
    protocol: str = string(3)
    capabilities: list[int] = repeated(enum(4))
    metadata: dict[str, str] = mapping(5, string(1), string(2))
