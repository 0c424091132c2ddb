"""Events that shims publish, and the service that takes them.

Source: the .proto files of containerd's API, field by field.
"""

from __future__ import annotations

from sampan.rpc.messages.types import Envelope, Mount
from sampan.rpc.messages.wellknown import Empty, Timestamp
from sampan.rpc.wire import Message, boolean, message, repeated, string, uint32


class ForwardRequest(Message, name="containerd.services.events.ttrpc.v1.ForwardRequest"):
    """`containerd.services.events.ttrpc.v1.ForwardRequest`."""

    envelope: Envelope | None = message(1, Envelope)


class SandboxCreate(Message, name="containerd.events.SandboxCreate"):
    """`containerd.events.SandboxCreate`."""

    sandbox_id: str = string(1)


class SandboxStart(Message, name="containerd.events.SandboxStart"):
    """`containerd.events.SandboxStart`."""

    sandbox_id: str = string(1)


class SandboxExit(Message, name="containerd.events.SandboxExit"):
    """`containerd.events.SandboxExit`."""

    sandbox_id: str = string(1)
    exit_status: int = uint32(2)
    exited_at: Timestamp | None = message(3, Timestamp)


class TaskIO(Message, name="containerd.events.TaskIO"):
    """`containerd.events.TaskIO`."""

    stdin: str = string(1)
    stdout: str = string(2)
    stderr: str = string(3)
    terminal: bool = boolean(4)


class TaskCreate(Message, name="containerd.events.TaskCreate"):
    """`containerd.events.TaskCreate`."""

    container_id: str = string(1)
    bundle: str = string(2)
    rootfs: list[Mount] = repeated(message(3, Mount))
    io: TaskIO | None = message(4, TaskIO)
    checkpoint: str = string(5)
    pid: int = uint32(6)


class TaskStart(Message, name="containerd.events.TaskStart"):
    """`containerd.events.TaskStart`."""

    container_id: str = string(1)
    pid: int = uint32(2)


class TaskDelete(Message, name="containerd.events.TaskDelete"):
    """`containerd.events.TaskDelete`."""

    container_id: str = string(1)
    pid: int = uint32(2)
    exit_status: int = uint32(3)
    exited_at: Timestamp | None = message(4, Timestamp)
    id: str = string(5)


class TaskExit(Message, name="containerd.events.TaskExit"):
    """`containerd.events.TaskExit`."""

    container_id: str = string(1)
    id: str = string(2)
    pid: int = uint32(3)
    exit_status: int = uint32(4)
    exited_at: Timestamp | None = message(5, Timestamp)


class TaskOOM(Message, name="containerd.events.TaskOOM"):
    """`containerd.events.TaskOOM`."""

    container_id: str = string(1)


class TaskExecAdded(Message, name="containerd.events.TaskExecAdded"):
    """`containerd.events.TaskExecAdded`."""

    container_id: str = string(1)
    exec_id: str = string(2)


class TaskExecStarted(Message, name="containerd.events.TaskExecStarted"):
    """`containerd.events.TaskExecStarted`."""

    container_id: str = string(1)
    exec_id: str = string(2)
    pid: int = uint32(3)


class TaskPaused(Message, name="containerd.events.TaskPaused"):
    """`containerd.events.TaskPaused`."""

    container_id: str = string(1)


class TaskResumed(Message, name="containerd.events.TaskResumed"):
    """`containerd.events.TaskResumed`."""

    container_id: str = string(1)


class TaskCheckpointed(Message, name="containerd.events.TaskCheckpointed"):
    """`containerd.events.TaskCheckpointed`."""

    container_id: str = string(1)
    checkpoint: str = string(2)


METHODS: dict[str, tuple[type[Message], type[Message]]] = {
    "Forward": (ForwardRequest, Empty),
}
"""Request and answer of each method."""

SERVICE = "containerd.services.events.ttrpc.v1.Events"
