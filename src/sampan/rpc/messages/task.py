"""The Task service; v2 and v3 differ by the name of the package alone.

Source: the .proto files of containerd's API, field by field.
"""

from __future__ import annotations

from sampan.rpc.messages.types import Mount, ProcessInfo
from sampan.rpc.messages.wellknown import Any, Empty, Timestamp
from sampan.rpc.wire import Message, boolean, enum, mapping, message, repeated, string, uint32


class CreateTaskRequest(Message, name="containerd.task.v2.CreateTaskRequest"):
    """`containerd.task.v2.CreateTaskRequest`."""

    id: str = string(1)
    bundle: str = string(2)
    rootfs: list[Mount] = repeated(message(3, Mount))
    terminal: bool = boolean(4)
    stdin: str = string(5)
    stdout: str = string(6)
    stderr: str = string(7)
    checkpoint: str = string(8)
    parent_checkpoint: str = string(9)
    options: Any | None = message(10, Any)


class CreateTaskResponse(Message, name="containerd.task.v2.CreateTaskResponse"):
    """`containerd.task.v2.CreateTaskResponse`."""

    pid: int = uint32(1)


class DeleteRequest(Message, name="containerd.task.v2.DeleteRequest"):
    """`containerd.task.v2.DeleteRequest`."""

    id: str = string(1)
    exec_id: str = string(2)


class DeleteResponse(Message, name="containerd.task.v2.DeleteResponse"):
    """`containerd.task.v2.DeleteResponse`."""

    pid: int = uint32(1)
    exit_status: int = uint32(2)
    exited_at: Timestamp | None = message(3, Timestamp)


class ExecProcessRequest(Message, name="containerd.task.v2.ExecProcessRequest"):
    """`containerd.task.v2.ExecProcessRequest`."""

    id: str = string(1)
    exec_id: str = string(2)
    terminal: bool = boolean(3)
    stdin: str = string(4)
    stdout: str = string(5)
    stderr: str = string(6)
    spec: Any | None = message(7, Any)


class ExecProcessResponse(Message, name="containerd.task.v2.ExecProcessResponse"):
    """`containerd.task.v2.ExecProcessResponse`."""


class ResizePtyRequest(Message, name="containerd.task.v2.ResizePtyRequest"):
    """`containerd.task.v2.ResizePtyRequest`."""

    id: str = string(1)
    exec_id: str = string(2)
    width: int = uint32(3)
    height: int = uint32(4)


class StateRequest(Message, name="containerd.task.v2.StateRequest"):
    """`containerd.task.v2.StateRequest`."""

    id: str = string(1)
    exec_id: str = string(2)


class StateResponse(Message, name="containerd.task.v2.StateResponse"):
    """`containerd.task.v2.StateResponse`."""

    id: str = string(1)
    bundle: str = string(2)
    pid: int = uint32(3)
    status: int = enum(4)
    stdin: str = string(5)
    stdout: str = string(6)
    stderr: str = string(7)
    terminal: bool = boolean(8)
    exit_status: int = uint32(9)
    exited_at: Timestamp | None = message(10, Timestamp)
    exec_id: str = string(11)


class KillRequest(Message, name="containerd.task.v2.KillRequest"):
    """`containerd.task.v2.KillRequest`."""

    id: str = string(1)
    exec_id: str = string(2)
    signal: int = uint32(3)
    all: bool = boolean(4)


class CloseIORequest(Message, name="containerd.task.v2.CloseIORequest"):
    """`containerd.task.v2.CloseIORequest`."""

    id: str = string(1)
    exec_id: str = string(2)
    stdin: bool = boolean(3)


class PidsRequest(Message, name="containerd.task.v2.PidsRequest"):
    """`containerd.task.v2.PidsRequest`."""

    id: str = string(1)


class PidsResponse(Message, name="containerd.task.v2.PidsResponse"):
    """`containerd.task.v2.PidsResponse`."""

    processes: list[ProcessInfo] = repeated(message(1, ProcessInfo))


class CheckpointTaskRequest(Message, name="containerd.task.v2.CheckpointTaskRequest"):
    """`containerd.task.v2.CheckpointTaskRequest`."""

    id: str = string(1)
    path: str = string(2)
    options: Any | None = message(3, Any)


class UpdateTaskRequest(Message, name="containerd.task.v2.UpdateTaskRequest"):
    """`containerd.task.v2.UpdateTaskRequest`."""

    id: str = string(1)
    resources: Any | None = message(2, Any)
    annotations: dict[str, str] = mapping(3, string(1), string(2))


class StartRequest(Message, name="containerd.task.v2.StartRequest"):
    """`containerd.task.v2.StartRequest`."""

    id: str = string(1)
    exec_id: str = string(2)


class StartResponse(Message, name="containerd.task.v2.StartResponse"):
    """`containerd.task.v2.StartResponse`."""

    pid: int = uint32(1)


class WaitRequest(Message, name="containerd.task.v2.WaitRequest"):
    """`containerd.task.v2.WaitRequest`."""

    id: str = string(1)
    exec_id: str = string(2)


class WaitResponse(Message, name="containerd.task.v2.WaitResponse"):
    """`containerd.task.v2.WaitResponse`."""

    exit_status: int = uint32(1)
    exited_at: Timestamp | None = message(2, Timestamp)


class StatsRequest(Message, name="containerd.task.v2.StatsRequest"):
    """`containerd.task.v2.StatsRequest`."""

    id: str = string(1)


class StatsResponse(Message, name="containerd.task.v2.StatsResponse"):
    """`containerd.task.v2.StatsResponse`."""

    stats: Any | None = message(1, Any)


class ConnectRequest(Message, name="containerd.task.v2.ConnectRequest"):
    """`containerd.task.v2.ConnectRequest`."""

    id: str = string(1)


class ConnectResponse(Message, name="containerd.task.v2.ConnectResponse"):
    """`containerd.task.v2.ConnectResponse`."""

    shim_pid: int = uint32(1)
    task_pid: int = uint32(2)
    version: str = string(3)


class ShutdownRequest(Message, name="containerd.task.v2.ShutdownRequest"):
    """`containerd.task.v2.ShutdownRequest`."""

    id: str = string(1)
    now: bool = boolean(2)


class PauseRequest(Message, name="containerd.task.v2.PauseRequest"):
    """`containerd.task.v2.PauseRequest`."""

    id: str = string(1)


class ResumeRequest(Message, name="containerd.task.v2.ResumeRequest"):
    """`containerd.task.v2.ResumeRequest`."""

    id: str = string(1)


METHODS: dict[str, tuple[type[Message], type[Message]]] = {
    "State": (StateRequest, StateResponse),
    "Create": (CreateTaskRequest, CreateTaskResponse),
    "Start": (StartRequest, StartResponse),
    "Delete": (DeleteRequest, DeleteResponse),
    "Pids": (PidsRequest, PidsResponse),
    "Pause": (PauseRequest, Empty),
    "Resume": (ResumeRequest, Empty),
    "Checkpoint": (CheckpointTaskRequest, Empty),
    "Kill": (KillRequest, Empty),
    "Exec": (ExecProcessRequest, Empty),
    "ResizePty": (ResizePtyRequest, Empty),
    "CloseIO": (CloseIORequest, Empty),
    "Update": (UpdateTaskRequest, Empty),
    "Wait": (WaitRequest, WaitResponse),
    "Stats": (StatsRequest, StatsResponse),
    "Connect": (ConnectRequest, ConnectResponse),
    "Shutdown": (ShutdownRequest, Empty),
}
"""Request and answer of each method."""

SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")
