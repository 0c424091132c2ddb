"""The Task service, v2 and v3: every method of it.

Errors follow containerd-shim-runc-v2: what has ended is NotFound to Kill, what still runs is
FailedPrecondition to Delete, and a runtime's own words come through in Unknown.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from sampan import __version__
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SampanError,
)
from sampan.rpc.messages import events, runc, task, types
from sampan.rpc.messages.wellknown import Any, Empty, Timestamp
from sampan.rpc.server import Context, Method
from sampan.rpc.wire import Message
from sampan.shim import cgroup, rootfs
from sampan.shim.births import Births, checkpoint_wanted
from sampan.shim.config import Config
from sampan.shim.oom import OomWatch
from sampan.shim.processes import Processes
from sampan.shim.publisher import Publisher
from sampan.shim.reaper import Exit
from sampan.shim.stdio.streams import Wanted
from sampan.shim.tasks import Container, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Untyped

__all__ = ["TaskService"]


class TaskService:
    """Holds the containers; `on_shutdown` is called when the shim shall end."""

    def __init__(self, config: Config, processes: Processes, publisher: Publisher) -> None:
        self._config = config
        self._processes = processes
        self._loop = processes.loop
        self._births = Births(config, processes)
        self._publisher = publisher
        self.containers: dict[str, Container] = {}
        self._creating: set[str] = set()
        self.shutdown = self._loop.stop
        self.pid = os.getpid()
        """The shim's: its keeper's, where it has one."""
        self.oom: OomWatch | None = None
        self.on_ended: Callable[[Container], None] = lambda _container: None
        """Told when a container's init has ended, before anybody else."""
        self.kept: Callable[[], bool] = lambda: False
        """Whether the shim outlives its containers, as one with a sandbox does."""

    def methods(self) -> dict[str, Method]:
        """Return the service's table."""
        return {
            name: Method(request, getattr(self, _handler_name(name)), resumable=name == "Wait")
            for name, (request, _) in task.METHODS.items()
        }

    def save(self) -> dict[str, Untyped] | None:
        """Return what another server needs to know; None while bytes are held here."""
        containers = [container.save() for container in self.containers.values()]
        if self._creating or None in containers:
            return None
        return {"containers": containers, "oom": self.oom.save() if self.oom else {}}

    def restore(self, saved: dict[str, Untyped]) -> None:
        """Go on where another server has stopped."""
        for values in saved["containers"]:
            container = self._births.restore(values)
            self.containers[container.id] = container
            for process in container.processes:
                if process.exit is None and process.pid:
                    self._watch(container, process)
        if self.oom is not None:
            self.oom.restore(saved["oom"])

    def _get(self, id: str) -> Container:
        try:
            return self.containers[id]
        except KeyError:
            raise NotFound(f"container {id} not created: not found") from None

    # --- create, start -------------------------------------------------------------------

    async def create(self, request: task.CreateTaskRequest, _: Context) -> Message:
        """Mount the rootfs, create the container, keep its init waiting."""
        if not request.id or "/" in request.id or not os.path.isabs(request.bundle):
            raise InvalidArgument(f"create: bad id {request.id!r} or bundle {request.bundle!r}")
        if request.id in self.containers or request.id in self._creating:
            raise AlreadyExists(f"container {request.id} already exists in this shim")
        self._creating.add(request.id)
        try:
            apart = bool(self.containers) or len(self._creating) > 1
            container = await self._births.create(request, apart=apart)
        finally:
            self._creating.discard(request.id)
        init = container.init
        self.containers[request.id] = container
        io = events.TaskIO(
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            terminal=request.terminal,
        )
        self._publisher.publish(
            "/tasks/create",
            events.TaskCreate(
                container_id=request.id,
                bundle=request.bundle,
                rootfs=request.rootfs,
                io=io,
                checkpoint=request.checkpoint,
                pid=init.pid,
            ),
        )
        if self.oom is not None:
            self.oom.add(container.id, init.pid)
        self._watch(container, init)
        return task.CreateTaskResponse(pid=init.pid)

    async def start(self, request: task.StartRequest, _: Context) -> Message:
        """Let init go, or make an exec."""
        container = self._get(request.id)
        process = container.process(request.exec_id)
        async with process.lock:
            if process.started or process.exit is not None:
                raise FailedPrecondition(f"cannot start process {request.exec_id or request.id}")
            if process is container.init:
                await container.runtime.start()
                process.started = True
                started: Message = events.TaskStart(container_id=container.id, pid=process.pid)
                self._publisher.publish("/tasks/start", started)
            else:
                container.running()
                process.pid = (await self._births.bear(container, process)).pid
                process.started = True
                self._publisher.publish(
                    "/tasks/exec-started",
                    events.TaskExecStarted(
                        container_id=container.id, exec_id=process.exec_id, pid=process.pid
                    ),
                )
                self._watch(container, process)
        return task.StartResponse(pid=process.pid)

    async def exec(self, request: task.ExecProcessRequest, _: Context) -> Message:
        """Note what to run; Start runs it."""
        container = self._get(request.id)
        exec_id = request.exec_id
        if not exec_id or "/" in exec_id:
            raise InvalidArgument(f"exec: bad id {exec_id!r}")
        if exec_id in container.execs:
            raise AlreadyExists(f"id {exec_id}: already exists")
        if request.spec is None:
            raise InvalidArgument(f"exec {exec_id}: no process given")
        container.running()
        wanted = Wanted(request.stdin, request.stdout, request.stderr, request.terminal)
        container.execs[exec_id] = Process(exec_id, wanted, request.spec.value)
        self._publisher.publish(
            "/tasks/exec-added", events.TaskExecAdded(container_id=container.id, exec_id=exec_id)
        )
        return Empty()

    # --- the end -------------------------------------------------------------------------

    def _watch(self, container: Container, process: Process) -> None:
        ended = process.ended = self._processes.reaper.expect(process.pid)

        def begin() -> None:
            self._loop.spawn(self._ended(container, process, ended.result()))

        ended.then(lambda: self._loop.call_soon(begin))

    async def _ended(self, container: Container, process: Process, end: Exit) -> None:
        async with process.lock:
            if process is container.init and container.shares_pids():
                with contextlib.suppress(SampanError):
                    await container.runtime.kill(9, everything=True)
            process.exit = end
            if process is container.init:
                self.on_ended(container)
            if process.streams is not None:
                process.streams.ended()
            self._publisher.publish(
                "/tasks/exit",
                events.TaskExit(
                    container_id=container.id,
                    id=process.exec_id or container.id,
                    pid=process.pid,
                    exit_status=end.status,
                    exited_at=Timestamp.of_ns(end.at_ns),
                ),
            )
            process.exited.set(end)

    async def wait(self, request: task.WaitRequest, _: Context) -> Message:
        """Answer when the process has ended, or at once if it has."""
        process = self._get(request.id).process(request.exec_id)
        end = await process.exited
        return task.WaitResponse(exit_status=end.status, exited_at=Timestamp.of_ns(end.at_ns))

    async def kill(self, request: task.KillRequest, _: Context) -> Message:
        """Signal a process, or with `all` the whole container, or all that an exec began."""
        container = self._get(request.id)
        process = container.process(request.exec_id)
        if request.all and process is container.init:
            await container.runtime.kill(request.signal, everything=True)
            return Empty()
        if request.all and process.group:
            # What it has started may live on, wherever it is.
            await container.runtime.kill_exec(process.group, process.pid, request.signal)
            return Empty()
        if process.exit is not None:
            raise NotFound(f"process {request.exec_id or request.id} already finished: not found")
        if not process.pid:
            raise FailedPrecondition(f"process {request.exec_id} not created")
        if process is container.init and not container.runtime.direct_signals:
            await container.runtime.kill(request.signal, everything=False)
            return Empty()
        self._processes.reaper.reap()  # else the pid might be a stranger's by now
        if process.ended is not None and process.ended.done:
            raise NotFound("process already finished: not found")
        try:
            os.kill(process.pid, request.signal)
        except ProcessLookupError:
            raise NotFound("process already finished: not found") from None
        except (OSError, OverflowError) as err:
            raise InvalidArgument(f"kill: signal {request.signal}: {err}") from err
        return Empty()

    async def delete(self, request: task.DeleteRequest, _: Context) -> Message:
        """Forget a process that has ended, and with init the container."""
        container = self._get(request.id)
        process = container.process(request.exec_id)
        if process is container.init:
            return await self._delete_container(container)
        if process.started and process.exit is None:
            raise FailedPrecondition(f"process {process.exec_id} must be deleted while stopped")
        container.execs.pop(process.exec_id, None)
        if process.group:
            await container.runtime.remove_exec(process.group)
        if process.streams is not None:
            process.streams.close()
        return _delete_response(process)

    async def _delete_container(self, container: Container) -> Message:
        async with container.lock:
            if self.containers.get(container.id) is not container:
                raise NotFound(f"container {container.id} not created: not found")
            init = container.init
            if init.exit is None:
                if init.started:
                    raise FailedPrecondition(f"container {container.id} must be stopped first")
                await container.runtime.kill(9, everything=False)
                await self._loop.within(init.exited, 10, f"kill {container.id}")
            await self.forget(container)
            response = _delete_response(init)
            self._publisher.publish(
                "/tasks/delete",
                events.TaskDelete(
                    container_id=container.id,
                    pid=response.pid,
                    exit_status=response.exit_status,
                    exited_at=response.exited_at,
                ),
            )
            return response

    async def forget(self, container: Container) -> None:
        """Remove what is left of a container that has ended; nobody is told."""
        await container.runtime.delete(force=False)
        if container.mounted:
            rootfs.unmount_all(container.rootfs)
        for process in container.processes:
            if process.streams is not None:
                process.streams.close()
        if self.oom is not None:
            self.oom.remove(container.id)
        del self.containers[container.id]

    def all_ended(self) -> bool:
        """Whether there are containers, and no process of them runs."""
        return (
            bool(self.containers)
            and not self._creating
            and not any(
                process.exit is None and process.pid
                for container in self.containers.values()
                for process in container.processes
            )
        )

    async def kill_all(self) -> None:
        """End and delete every container; what fails is left to the next start's clean-up."""
        for container in list(self.containers.values()):
            with contextlib.suppress(SampanError, OSError):
                if container.init.exit is None:
                    if container.paused:
                        await container.runtime.resume()
                    await container.runtime.kill(9, everything=True)
                    await self._loop.within(container.init.exited, 10, f"kill {container.id}")
                await self._delete_container(container)

    # --- questions -----------------------------------------------------------------------

    async def state(self, request: task.StateRequest, _: Context) -> Message:
        """Tell all about a process."""
        container = self._get(request.id)
        process = container.process(request.exec_id)
        wanted = process.wanted
        state = task.StateResponse(
            id=process.exec_id or container.id,
            bundle=container.bundle,
            pid=process.pid,
            status=process.status(paused=container.paused),
            stdin=wanted.stdin,
            stdout=wanted.stdout,
            stderr=wanted.stderr,
            terminal=wanted.terminal,
            exec_id=process.exec_id,
        )
        if process.exit is not None:
            state.exit_status = process.exit.status
            state.exited_at = Timestamp.of_ns(process.exit.at_ns)
        return state

    async def pids(self, request: task.PidsRequest, _: Context) -> Message:
        """List every process of the container."""
        container = self._get(request.id)
        known = {each.pid: each.exec_id for each in container.execs.values() if each.exit is None}
        answer = task.PidsResponse()
        if container.init.exit is None:
            for pid in cgroup.pids(container.init.pid):
                info = types.ProcessInfo(pid=pid)
                if pid in known:
                    info.info = Any.pack(runc.ProcessDetails(exec_id=known[pid]))
                answer.processes.append(info)
        return answer

    async def stats(self, request: task.StatsRequest, _: Context) -> Message:
        """Read the container's cgroups."""
        init = self._get(request.id).init
        if init.exit is not None:
            raise NotFound(f"cgroup of {request.id}: not found")
        return task.StatsResponse(stats=Any.pack(cgroup.metrics(init.pid)))

    async def connect(self, request: task.ConnectRequest, _: Context) -> Message:
        """Tell who we are."""
        container = self.containers.get(request.id)
        return task.ConnectResponse(
            shim_pid=self.pid,
            task_pid=container.init.pid if container else 0,
            version=__version__,
        )

    # --- changes -------------------------------------------------------------------------

    async def pause(self, request: task.PauseRequest, _: Context) -> Message:
        """Freeze."""
        container = self._get(request.id)
        async with container.lock:
            if not container.running().started:
                raise FailedPrecondition(f"cannot pause container {container.id}: not running")
            await container.runtime.pause()
            container.paused = True
        self._publisher.publish("/tasks/paused", events.TaskPaused(container_id=container.id))
        return Empty()

    async def resume(self, request: task.ResumeRequest, _: Context) -> Message:
        """Thaw."""
        container = self._get(request.id)
        async with container.lock:
            container.running()
            await container.runtime.resume()
            container.paused = False
        self._publisher.publish("/tasks/resumed", events.TaskResumed(container_id=container.id))
        return Empty()

    async def update(self, request: task.UpdateTaskRequest, _: Context) -> Message:
        """Change limits."""
        container = self._get(request.id)
        if request.resources is None:
            raise InvalidArgument("update: no resources given")
        async with container.lock:
            container.running()
            await container.runtime.update(request.resources.value)
        return Empty()

    async def checkpoint(self, request: task.CheckpointTaskRequest, _: Context) -> Message:
        """Write an image of the container."""
        container = self._get(request.id)
        async with container.lock:
            container.running()
            await container.runtime.checkpoint(checkpoint_wanted(request))
        self._publisher.publish(
            "/tasks/checkpointed",
            events.TaskCheckpointed(container_id=container.id, checkpoint=request.path),
        )
        return Empty()

    async def resize_pty(self, request: task.ResizePtyRequest, _: Context) -> Message:
        """Set the size of a terminal."""
        process = self._get(request.id).process(request.exec_id)
        if process.streams is None:
            raise FailedPrecondition(f"resize: process {process.exec_id} has not started")
        process.streams.resize(request.width & 0xFFFF, request.height & 0xFFFF)
        return Empty()

    async def close_io(self, request: task.CloseIORequest, _: Context) -> Message:
        """Let stdin end."""
        process = self._get(request.id).process(request.exec_id)
        if request.stdin and process.streams is not None:
            process.streams.close_stdin()
        return Empty()

    @property
    def idle(self) -> bool:
        """Whether there is no container, nor one on its way."""
        return not self.containers and not self._creating

    async def shut_down(self, request: task.ShutdownRequest, _: Context) -> Message:
        """End the shim, unless containers are left."""
        if (self.idle and not self.kept()) or request.now:
            self._loop.call_soon(self.shutdown)
        return Empty()

    def reopen_logs(self, id: str, exec_id: str) -> None:
        """Reopen the log files of a process.

        Raises:
          NotFound: there is no such process; InvalidArgument: a file cannot be opened.
        """
        process = self._get(id).process(exec_id)
        if process.streams is not None:
            process.streams.reopen_logs()

    def draining(self) -> bool:
        """Whether output of a deleted container may still be on its way."""
        return self._loop.lingering > 0


def _handler_name(method: str) -> str:
    special = {"ResizePty": "resize_pty", "CloseIO": "close_io", "Shutdown": "shut_down"}
    return special.get(method, method.lower())


def _delete_response(process: Process) -> task.DeleteResponse:
    response = task.DeleteResponse(pid=process.pid)
    if process.exit is not None:
        response.exit_status = process.exit.status
        response.exited_at = Timestamp.of_ns(process.exit.at_ns)
    return response
