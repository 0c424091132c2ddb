"""Tasks of the daemon. See `runtime.Tasks` for what each call promises."""

from __future__ import annotations

import builtins
import signal as signals
from collections.abc import Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as pb
from sampan.api.containerd.services.tasks.v1.tasks_grpc import TasksStub
from sampan.client.remote.channel import Connection
from sampan.errors import FailedPrecondition, NotFound
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.runtime import Exit, Pid, ProcessState, Status, Stdio
from sampan.services.convert import any_from, any_of, mounts_from

__all__ = ["RemoteTasks"]

_PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_CREATE_S = 130.0
_NS = 1_000_000_000


class RemoteTasks:
    """See `runtime.Tasks`. `spec` and `runtime` are those of the container's record."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._stub = TasksStub(connection.channel)

    async def create(
        self,
        id: str,
        *,
        spec: bytes = b"",
        rootfs: Sequence[Mount] = (),
        runtime: str = "",
        stdio: Stdio = Stdio(),  # noqa: B008 - frozen
        options: Opaque | None = None,
        checkpoint: str = "",
        owner_fd: int = -1,
        **more: Any,
    ) -> int:
        del spec, runtime, checkpoint, owner_fd, more
        request = pb.CreateTaskRequest(
            container_id=id,
            rootfs=mounts_from(rootfs),
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            options=any_from(options),
        )
        answer = await self._call(self._stub.Create, request, timeout_s=_CREATE_S)
        return int(answer.pid)

    async def start(self, id: str, exec_id: str = "") -> int:
        request = pb.StartRequest(container_id=id, exec_id=exec_id)
        return int((await self._call(self._stub.Start, request)).pid)

    async def exec(self, id: str, exec_id: str, process: bytes | Opaque, stdio: Stdio) -> None:
        spec = process if isinstance(process, Opaque) else Opaque(_PROCESS, process)
        request = pb.ExecProcessRequest(
            container_id=id,
            exec_id=exec_id,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            spec=AnyMessage(type_url=spec.type_url, value=spec.value),
        )
        await self._call(self._stub.Exec, request)

    async def kill(self, id: str, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        request = pb.KillRequest(container_id=id, exec_id=exec_id, signal=signal, all=all)
        await self._call(self._stub.Kill, request)

    async def wait(self, id: str, exec_id: str = "") -> Exit:
        request = pb.WaitRequest(container_id=id, exec_id=exec_id)
        answer = await self._call(self._stub.Wait, request, timeout_s=None)
        return Exit(0, answer.exit_status, _ns(answer.exited_at))

    async def delete(self, id: str, exec_id: str = "", *, force: bool = False) -> Exit:
        if force and not exec_id:
            try:
                await self.kill(id, signals.SIGKILL, all=True)
                await self.wait(id)
            except FailedPrecondition:
                pass
            except NotFound as err:
                if "finished" not in str(err):
                    raise
        if exec_id:
            one = pb.DeleteProcessRequest(container_id=id, exec_id=exec_id)
            answer = await self._call(self._stub.DeleteProcess, one)
        else:
            whole = pb.DeleteTaskRequest(container_id=id)
            answer = await self._call(self._stub.Delete, whole)
        return Exit(answer.pid, answer.exit_status, _ns(answer.exited_at))

    async def state(self, id: str, exec_id: str = "") -> ProcessState:
        request = pb.GetRequest(container_id=id, exec_id=exec_id)
        return _state(id, (await self._call(self._stub.Get, request)).process)

    async def list(self) -> builtins.list[ProcessState]:
        answer = await self._call(self._stub.List, pb.ListTasksRequest())
        return [_state(one.container_id or one.id, one) for one in answer.tasks]

    async def pause(self, id: str) -> None:
        await self._call(self._stub.Pause, pb.PauseTaskRequest(container_id=id))

    async def resume(self, id: str) -> None:
        await self._call(self._stub.Resume, pb.ResumeTaskRequest(container_id=id))

    async def pids(self, id: str) -> Sequence[Pid]:
        answer = await self._call(self._stub.ListPids, pb.ListPidsRequest(container_id=id))
        return [
            Pid(one.pid, any_of(one.info) if one.HasField("info") else None)
            for one in answer.processes
        ]

    async def stats(self, id: str) -> Opaque:
        request = pb.MetricsRequest(filters=[f"id=={id}"])
        answer = await self._call(self._stub.Metrics, request)
        if not answer.metrics:
            raise NotFound(f"task {id}: not found")
        return any_of(answer.metrics[0].data)

    async def update(self, id: str, resources: Opaque) -> None:
        request = pb.UpdateTaskRequest(container_id=id, resources=any_from(resources))
        await self._call(self._stub.Update, request)

    async def resize(self, id: str, width: int, height: int, exec_id: str = "") -> None:
        request = pb.ResizePtyRequest(container_id=id, exec_id=exec_id, width=width, height=height)
        await self._call(self._stub.ResizePty, request)

    async def close_stdin(self, id: str, exec_id: str = "") -> None:
        request = pb.CloseIORequest(container_id=id, exec_id=exec_id, stdin=True)
        await self._call(self._stub.CloseIO, request)


def _ns(when: Any) -> int:
    return int(when.seconds) * _NS + int(when.nanos)


def _state(id: str, process: Any) -> ProcessState:
    return ProcessState(
        id=id,
        exec_id=process.id if process.id != id else "",
        pid=process.pid,
        status=Status(process.status),
        stdio=Stdio(process.stdin, process.stdout, process.stderr, process.terminal),
        exit_status=process.exit_status,
        exited_at_ns=_ns(process.exited_at),
    )
