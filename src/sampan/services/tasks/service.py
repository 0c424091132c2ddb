"""The gRPC face of tasks: it finds the task by the container's id, and hands on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.empty_pb2 import Empty

from sampan import context
from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as pb
from sampan.api.containerd.services.tasks.v1.tasks_grpc import TasksBase
from sampan.api.containerd.types.metrics_pb2 import Metric
from sampan.api.containerd.types.runc.options.oci_pb2 import Options
from sampan.api.containerd.types.task.task_pb2 import Process, ProcessInfo
from sampan.api.containerd.types.task.task_pb2 import Status as StatusMessage
from sampan.concurrency import shielded
from sampan.errors import NotFound, Unknown
from sampan.metadata import Container, Metadata
from sampan.model import filters
from sampan.model.opaque import Opaque
from sampan.rpc.grpc import unary
from sampan.runtime import Exit, ProcessState, Status, Stdio, Tasks
from sampan.runtime.bundle import Bundle
from sampan.runtime.controller import SandboxController
from sampan.services.convert import (
    any_from,
    any_of,
    any_or_none,
    descriptor_from,
    descriptor_of,
    mounts_of,
    timestamp_ns,
)
from sampan.services.tasks.checkpoints import Checkpoints
from sampan.services.tasks.rootfs import TaskMounts

__all__ = ["TasksService"]

_UNDO_S: Final = 30.0
_RUNC_OPTIONS: Final = Options.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class _Row:
    """A task as filters of Metrics see it."""

    id: str
    namespace: str

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        return filters.field_of(path, {"id": self.id, "namespace": self.namespace}, {})


class TasksService(TasksBase):
    """Options of the request win over those of the container's record, as there."""

    def __init__(
        self,
        metadata: Metadata,
        tasks: Tasks,
        mounts: TaskMounts,
        sandboxes: SandboxController,
        checkpoints: Checkpoints,
    ) -> None:
        self._checkpoints = checkpoints
        self._sandboxes = sandboxes
        self._containers = metadata.containers
        self._tasks = tasks
        self._mounts = mounts

    @unary
    async def Create(self, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        container = await self._containers.get(request.container_id)
        options = any_or_none(request, "options")
        checkpoint = await self._checkpoint_of(request, options)
        rootfs, activated = await self._mounts.activate(container.id, mounts_of(request.rootfs))
        try:
            pid = await self._tasks.create(
                container.id,
                spec=container.spec.value,
                rootfs=rootfs,
                stdio=Stdio(request.stdin, request.stdout, request.stderr, request.terminal),
                options=options or container.runtime.options,
                checkpoint=checkpoint,
                runtime=request.runtime_path or container.runtime.name,
                pod=self._sandbox_of(container),
            )
        except BaseException as err:
            if activated:
                await shielded(_UNDO_S, self._mounts.deactivate(container.id))
            if checkpoint:
                await shielded(_UNDO_S, self._checkpoints.forget(container.id))
            if isinstance(err, Unknown):
                # What the OCI runtime says; tools look for these words before it.
                raise Unknown(f"failed to create shim task: {err}") from err
            raise
        return pb.CreateTaskResponse(container_id=container.id, pid=pid)

    @unary
    async def Start(self, request: pb.StartRequest) -> pb.StartResponse:
        pid = await self._tasks.start(request.container_id, request.exec_id)
        return pb.StartResponse(pid=pid)

    @unary
    async def Delete(self, request: pb.DeleteTaskRequest) -> pb.DeleteResponse:
        ended = await self._tasks.delete(request.container_id)
        await self._mounts.deactivate(request.container_id)
        await self._checkpoints.forget(request.container_id)
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
        container = await self._containers.get(request.container_id)
        made = await self._checkpoints.take(container, any_or_none(request, "options"))
        return pb.CheckpointTaskResponse(descriptors=[descriptor_from(one) for one in made])

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

    async def _checkpoint_of(self, request: pb.CreateTaskRequest, options: Opaque | None) -> str:
        """Return the folder of images that the task shall be restored from, if any."""
        if options is not None and options.type_url.endswith(_RUNC_OPTIONS):
            path = Options.FromString(options.value).criu_image_path
            if path:
                return path
        if not request.HasField("checkpoint"):
            return ""
        given = request.checkpoint.annotations.get("RestoreFromPath", "")
        if given:
            return given
        return await self._checkpoints.restore(
            request.container_id, descriptor_of(request.checkpoint)
        )

    def _sandbox_of(self, container: Container) -> Bundle | None:
        """Return where the shim of the container's sandbox is found, if it has a live one."""
        if not container.sandbox_id:
            return None
        bundle = self._sandboxes.bundle(container.sandbox_id)
        return bundle if bundle.exists() else None

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
