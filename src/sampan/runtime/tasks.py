"""Tasks of this host: the calls of the front door, each made to the task's shim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sampan import context
from sampan.concurrency import shielded, to_thread
from sampan.errors import FailedPrecondition, NotFound, SampanError, Unavailable
from sampan.events import Event, Publisher
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.rpc.messages import task as pb
from sampan.rpc.messages import types
from sampan.rpc.messages.wellknown import Any, Empty, Timestamp
from sampan.runtime import Exit, ProcessState, Status, Stdio
from sampan.runtime.bundle import Bundle, bundles
from sampan.runtime.shims import Shim, Shims

__all__ = ["LocalTasks"]

log = logging.getLogger(__name__)

PROCESS_TYPE: Final = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_KILLED: Final = 137


class LocalTasks:
    """The tasks below one state folder; see `Tasks` at the front door."""

    def __init__(self, state: Path, shims: Shims, events: Publisher | None) -> None:
        self._state = state
        self._shims = shims
        self._events = events

    def _bundle(self, id: str) -> Bundle:
        return Bundle(self._state, context.namespace(), id)

    async def _shim(self, id: str) -> Shim:
        return await self._shims.connect(self._bundle(id))

    async def create(
        self,
        id: str,
        *,
        spec: bytes,
        rootfs: Sequence[Mount] = (),
        runtime: str = "",
        stdio: Stdio = Stdio(),  # noqa: B008 - frozen
        options: Opaque | None = None,
        owner_fd: int = -1,
    ) -> int:
        bundle = self._bundle(id)
        await to_thread(bundle.create, spec)
        try:
            shim = await self._shims.start(bundle, runtime, owner_fd=owner_fd)
            request = pb.CreateTaskRequest(
                id=id,
                bundle=str(bundle.path),
                rootfs=[
                    types.Mount(
                        type=m.type, source=m.source, target=m.target, options=list(m.options)
                    )
                    for m in rootfs
                ],
                terminal=stdio.terminal,
                stdin=stdio.stdin,
                stdout=stdio.stdout,
                stderr=stdio.stderr,
                options=Any(type_url=options.type_url, value=options.value) if options else None,
            )
            answer = await shim.call("Create", request, pb.CreateTaskResponse)
        except BaseException:
            await shielded(30, self._shims.clean_up(bundle))
            raise
        io = {"stdin": stdio.stdin, "stdout": stdio.stdout, "stderr": stdio.stderr}
        self._tell("create", "TaskCreate", id, bundle=str(bundle.path), io=io, pid=answer.pid)
        return answer.pid

    async def start(self, id: str, exec_id: str = "") -> int:
        shim = await self._shim(id)
        answer = await shim.call("Start", pb.StartRequest(id=id, exec_id=exec_id), pb.StartResponse)
        if exec_id:
            self._tell("exec-started", "TaskExecStarted", id, exec_id=exec_id, pid=answer.pid)
        else:
            self._tell("start", "TaskStart", id, pid=answer.pid)
        return answer.pid

    async def exec(self, id: str, exec_id: str, process: bytes | Opaque, stdio: Stdio) -> None:
        shim = await self._shim(id)
        spec = process if isinstance(process, Opaque) else Opaque(PROCESS_TYPE, process)
        request = pb.ExecProcessRequest(
            id=id,
            exec_id=exec_id,
            terminal=stdio.terminal,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            spec=Any(type_url=spec.type_url, value=spec.value),
        )
        await shim.call("Exec", request, Empty)
        self._tell("exec-added", "TaskExecAdded", id, exec_id=exec_id)

    async def kill(self, id: str, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        shim = await self._shim(id)
        request = pb.KillRequest(id=id, exec_id=exec_id, signal=signal, all=all)
        await shim.call("Kill", request, Empty)

    async def wait(self, id: str, exec_id: str = "") -> Exit:
        try:
            shim = await self._shim(id)
            request = pb.WaitRequest(id=id, exec_id=exec_id)
            answer = await shim.call("Wait", request, pb.WaitResponse, timeout_s=None)
        except Unavailable:
            if not self._bundle(id).exists():
                raise NotFound(f"task {id} not found") from None
            return Exit(0, _KILLED, 0)
        return Exit(0, answer.exit_status, _ns(answer.exited_at))

    async def delete(self, id: str, exec_id: str = "", *, force: bool = False) -> Exit:
        bundle = self._bundle(id)
        try:
            shim = await self._shims.connect(bundle)
            if force and not exec_id:
                await self._end(shim, id)
            request = pb.DeleteRequest(id=id, exec_id=exec_id)
            answer = await shim.call("Delete", request, pb.DeleteResponse)
        except Unavailable:
            bundle.require()
            await self._shims.clean_up(bundle)
            self._tell("exit", "TaskExit", id, id=id, exit_status=_KILLED)
            return Exit(0, _KILLED, 0)
        if not exec_id:
            await shielded(30, self._shims.shut_down(bundle))
            self._tell("delete", "TaskDelete", id, pid=answer.pid, exit_status=answer.exit_status)
        return Exit(answer.pid, answer.exit_status, _ns(answer.exited_at))

    async def _end(self, shim: Shim, id: str) -> None:
        try:
            await shim.call("Kill", pb.KillRequest(id=id, signal=9, all=True), Empty)
        except (NotFound, FailedPrecondition):
            return
        async with asyncio.timeout(20):
            await shim.call("Wait", pb.WaitRequest(id=id), pb.WaitResponse, timeout_s=None)

    async def state(self, id: str, exec_id: str = "") -> ProcessState:
        try:
            shim = await self._shim(id)
            request = pb.StateRequest(id=id, exec_id=exec_id)
            answer = await shim.call("State", request, pb.StateResponse, timeout_s=10)
        except Unavailable:
            bundle = self._bundle(id)
            bundle.require()
            return ProcessState(
                id, exec_id, 0, Status.STOPPED, Stdio(), _KILLED, 0, str(bundle.path)
            )
        stdio = Stdio(answer.stdin, answer.stdout, answer.stderr, answer.terminal)
        return ProcessState(
            id=id,
            exec_id=exec_id,
            pid=answer.pid,
            status=Status(answer.status),
            stdio=stdio,
            exit_status=answer.exit_status,
            exited_at_ns=_ns(answer.exited_at),
            bundle=answer.bundle,
        )

    async def list(self) -> list[ProcessState]:
        found = await to_thread(lambda: list(bundles(self._state, context.namespace())))
        states: list[ProcessState] = []

        async def one(id: str) -> None:
            try:
                states.append(await self.state(id))
            except SampanError:
                return

        async with asyncio.TaskGroup() as group:
            for bundle in found:
                group.create_task(one(bundle.id))
        return sorted(states, key=lambda state: state.id)

    async def pause(self, id: str) -> None:
        await (await self._shim(id)).call("Pause", pb.PauseRequest(id=id), Empty)
        self._tell("paused", "TaskPaused", id)

    async def resume(self, id: str) -> None:
        await (await self._shim(id)).call("Resume", pb.ResumeRequest(id=id), Empty)
        self._tell("resumed", "TaskResumed", id)

    async def recover(self) -> int:
        """Connect to every shim of every namespace; return how many live."""
        alive = 0
        for bundle in await to_thread(lambda: list(bundles(self._state))):
            try:
                await self._shims.connect(bundle)
                alive += 1
            except SampanError as err:
                log.warning("shim is gone: container=%s: %s", bundle.id, err)
        return alive

    async def pids(self, id: str) -> Sequence[int]:
        shim = await self._shim(id)
        answer = await shim.call("Pids", pb.PidsRequest(id=id), pb.PidsResponse)
        return [process.pid for process in answer.processes]

    async def stats(self, id: str) -> Opaque:
        shim = await self._shim(id)
        answer = await shim.call("Stats", pb.StatsRequest(id=id), pb.StatsResponse)
        stats = answer.stats or Any()
        return Opaque(stats.type_url, stats.value)

    async def update(self, id: str, resources: Opaque) -> None:
        packed = Any(type_url=resources.type_url, value=resources.value)
        shim = await self._shim(id)
        await shim.call("Update", pb.UpdateTaskRequest(id=id, resources=packed), Empty)

    async def resize(self, id: str, width: int, height: int, exec_id: str = "") -> None:
        request = pb.ResizePtyRequest(id=id, exec_id=exec_id, width=width, height=height)
        await (await self._shim(id)).call("ResizePty", request, Empty)

    async def close_stdin(self, id: str, exec_id: str = "") -> None:
        request = pb.CloseIORequest(id=id, exec_id=exec_id, stdin=True)
        await (await self._shim(id)).call("CloseIO", request, Empty)

    def _tell(self, topic: str, name: str, container: str, **fields: object) -> None:
        if self._events is not None:
            event = Event(f"containerd.events.{name}", {"container_id": container, **fields})
            self._events.publish(f"/tasks/{topic}", event)


def _ns(time: Timestamp | None) -> int:
    return time.ns if time is not None else 0
