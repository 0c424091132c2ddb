"""The gRPC face of tasks: it finds the task by the container's id, and hands on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from sampan import context
from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as pb
from sampan.api.containerd.services.tasks.v1.tasks_grpc import TasksBase
from sampan.api.containerd.types.metrics_pb2 import Metric
from sampan.api.containerd.types.task.task_pb2 import Process, ProcessInfo
from sampan.api.containerd.types.task.task_pb2 import Status as StatusMessage
from sampan.errors import NotFound, Unimplemented
from sampan.metadata import Metadata
from sampan.model import filters
from sampan.rpc.grpc import unary
from sampan.runtime import Exit, ProcessState, Status, Stdio, Tasks
from sampan.services.convert import (
    any_from,
    any_of,
    any_or_none,
    mounts_of,
    timestamp_ns,
)

__all__ = ["TasksService"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A task as filters of Metrics see it."""

    id: str
    namespace: str

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        return filters.field_of(path, {"id": self.id, "namespace": self.namespace}, {})


class TasksService(TasksBase):
    """Options of the request win over those of the container's record, as there."""

    def __init__(self, metadata: Metadata, tasks: Tasks) -> None:
        self._containers = metadata.containers
        self._tasks = tasks

    @unary
    async def Create(self, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        container = await self._containers.get(request.container_id)
        if request.HasField("checkpoint"):
            raise Unimplemented(
                f"task {container.id}: restoring from a checkpoint image is not there yet"
            )
        pid = await self._tasks.create(
            container.id,
            spec=container.spec.value,
            rootfs=mounts_of(request.rootfs),
            stdio=Stdio(request.stdin, request.stdout, request.stderr, request.terminal),
            options=any_or_none(request, "options") or container.runtime.options,
            runtime=request.runtime_path or container.runtime.name,
        )
        return pb.CreateTaskResponse(container_id=container.id, pid=pid)

    @unary
    async def Start(self, request: pb.StartRequest) -> pb.StartResponse:
        pid = await self._tasks.start(request.container_id, request.exec_id)
        return pb.StartResponse(pid=pid)

    @unary
    async def Delete(self, request: pb.DeleteTaskRequest) -> pb.DeleteResponse:
        ended = await self._tasks.delete(request.container_id)
        return _deleted(request.container_id, ended)

    @unary
    async def DeleteProcess(self, request: pb.DeleteProcessRequest) -> pb.DeleteResponse:
        ended = await self._tasks.delete(request.container_id, request.exec_id)
        return _deleted(request.exec_id, ended)

    @unary
    async def Get(self, request: pb.GetRequest) -> pb.GetResponse:
        state = await self._tasks.state(request.container_id, request.exec_id)
        return pb.GetResponse(process=_process(state))

    @unary
    async def List(self, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        del request  # its filter has no meaning in containerd either
        return pb.ListTasksResponse(tasks=[_process(one) for one in await self._tasks.list()])

    @unary
    async def Kill(self, request: pb.KillRequest) -> Empty:
        await self._tasks.kill(
            request.container_id, request.signal, exec_id=request.exec_id, all=request.all
        )
        return Empty()

    @unary
    async def Exec(self, request: pb.ExecProcessRequest) -> Empty:
        streams = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        await self._tasks.exec(request.container_id, request.exec_id, any_of(request.spec), streams)
        return Empty()

    @unary
    async def ResizePty(self, request: pb.ResizePtyRequest) -> Empty:
        await self._tasks.resize(
            request.container_id, request.width, request.height, request.exec_id
        )
        return Empty()

    @unary
    async def CloseIO(self, request: pb.CloseIORequest) -> Empty:
        if request.stdin:
            await self._tasks.close_stdin(request.container_id, request.exec_id)
        return Empty()

    @unary
    async def Pause(self, request: pb.PauseTaskRequest) -> Empty:
        await self._tasks.pause(request.container_id)
        return Empty()

    @unary
    async def Resume(self, request: pb.ResumeTaskRequest) -> Empty:
        await self._tasks.resume(request.container_id)
        return Empty()

    @unary
    async def ListPids(self, request: pb.ListPidsRequest) -> pb.ListPidsResponse:
        found = await self._tasks.pids(request.container_id)
        return pb.ListPidsResponse(
            processes=[ProcessInfo(pid=pid, info=any_from(pid.info)) for pid in found]
        )

    @unary
    async def Checkpoint(self, request: pb.CheckpointTaskRequest) -> pb.CheckpointTaskResponse:
        await self._tasks.state(request.container_id)
        raise Unimplemented(
            f"task {request.container_id}: checkpoints into content are not there yet"
        )

    @unary
    async def Update(self, request: pb.UpdateTaskRequest) -> Empty:
        await self._tasks.update(request.container_id, any_of(request.resources))
        return Empty()

    @unary
    async def Metrics(self, request: pb.MetricsRequest) -> pb.MetricsResponse:
        wanted = filters.parse_all(request.filters)
        metrics = []
        for task in await self._tasks.list():
            if wanted.match(_Row(task.id, context.namespace())):
                metric = await self._metric(task.id)
                if metric is not None:
                    metrics.append(metric)
        return pb.MetricsResponse(metrics=metrics)

    @unary
    async def Wait(self, request: pb.WaitRequest) -> pb.WaitResponse:
        ended = await self._tasks.wait(request.container_id, request.exec_id)
        return pb.WaitResponse(exit_status=ended.status, exited_at=timestamp_ns(ended.exited_at_ns))

    async def _metric(self, id: str) -> Metric | None:
        try:
            figures = await self._tasks.stats(id)
        except NotFound:
            return None
        return Metric(timestamp=timestamp_ns(time.time_ns()), id=id, data=any_from(figures))


def _deleted(id: str, ended: Exit) -> pb.DeleteResponse:
    return pb.DeleteResponse(
        id=id,
        pid=ended.pid,
        exit_status=ended.status,
        exited_at=timestamp_ns(ended.exited_at_ns),
    )


def _process(state: ProcessState) -> Process:
    stopped = state.status is Status.STOPPED
    return Process(
        id=state.exec_id or state.id,
        pid=state.pid,
        status=StatusMessage.Name(state.status.value),
        stdin=state.stdio.stdin,
        stdout=state.stdio.stdout,
        stderr=state.stdio.stderr,
        terminal=state.stdio.terminal,
        exit_status=state.exit_status,
        exited_at=timestamp_ns(state.exited_at_ns) if stopped else None,
    )
