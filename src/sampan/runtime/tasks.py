"""Tasks of this host: the calls of the front door, each made to the task's shim.

verb ─▶ connect ─▶ call ─▶ answer
          │          └ Unavailable: the shim died        ┐
          └ Unavailable: no shim, or nobody listens      ├─▶ bury ─▶ as a task that was killed
delete, kill 9 ─▶ DeadlineExceeded: the shim hangs       ┘
"""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sampan import context
from sampan.concurrency import shielded, to_thread
from sampan.concurrency.trace import trace
from sampan.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    SampanError,
    Unavailable,
)
from sampan.events import Event, Publisher
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.rpc.messages import runc, types
from sampan.rpc.messages import sampan as own
from sampan.rpc.messages import task as pb
from sampan.rpc.messages.wellknown import Any, Empty, Timestamp
from sampan.rpc.wire import Message
from sampan.runtime import Exit, Pid, ProcessState, Status, Stdio
from sampan.runtime.bundle import Bundle, Lock, bundles, root_group, sweep
from sampan.runtime.burial import grave
from sampan.runtime.shims import Shim, Shims

__all__ = ["LocalTasks"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

PROCESS_TYPE: Final = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_CREATE_S: Final = 120.0
"""Mounts of slow storage, hooks, and a restore from images are part of Create."""
_SLOW_S: Final = 60.0
_UNDO_S: Final = 60.0
_SIGKILL: Final = 9


class _Gone(Exception):
    """The task's shim has died, and this is how the task ended."""

    def __init__(self, ended: Exit) -> None:
        super().__init__()
        self.ended = ended


class LocalTasks:
    """The tasks below one state folder; see `Tasks` at the front door."""

    def __init__(
        self, state: Path, shims: Shims, events: Publisher, *, shims_publish: bool = False
    ) -> None:
        """Serve what is there.

        Args:
          state: The state folder.
          shims: How to reach its shims.
          events: Told what happens.
          shims_publish: Somebody listens to what shims publish, and it comes to `events`: then we
            only tell what dead ones cannot, and notice by ourselves when one dies.
        """
        self._state = state
        self._shims = shims
        self._events = events
        self._quiet = shims_publish
        self._burials: set[asyncio.Task[None]] = set()
        if shims_publish:
            shims.on_open = self._watch

    def _bundle(self, id: str) -> Bundle:
        return Bundle(self._state, context.namespace(), id)

    # --- the beginning -------------------------------------------------------------------

    async def create(
        self,
        id: str,
        *,
        spec: bytes,
        rootfs: Sequence[Mount] = (),
        runtime: str = "",
        stdio: Stdio = Stdio(),  # noqa: B008 - frozen
        options: Opaque | None = None,
        checkpoint: str = "",
        owner_fd: int = -1,
        pod: Bundle | None = None,
    ) -> int:
        bundle = self._bundle(id)
        packed = Any(type_url=options.type_url, value=options.value) if options else None
        files = {"runtime": runtime.encode()}
        if options is not None and options.type_url.endswith("runc.v1.Options"):
            files["options"] = options.value
        elif packed is None and self._shims.exec_oci:
            packed = Any.pack(runc.Options(binary_name=self._shims.exec_oci))
            files["options"] = packed.value
        with Lock() as lock:
            await self._make_bundle(bundle, spec, lock, files)
            trace("tasks.bundle_made")
            try:
                shim = await self._shims.start(
                    bundle,
                    runtime,
                    options=bytes(packed) if packed else b"",
                    owner_fd=owner_fd,
                    pod=pod,
                )
                trace("tasks.shim_started")
                request = pb.CreateTaskRequest(
                    id=id,
                    bundle=str(bundle.path),
                    rootfs=[_mount(one) for one in rootfs],
                    terminal=stdio.terminal,
                    stdin=stdio.stdin,
                    stdout=stdio.stdout,
                    stderr=stdio.stderr,
                    checkpoint=checkpoint,
                    options=packed,
                )
                answer = await shim.call(
                    "Create", request, pb.CreateTaskResponse, timeout_s=_CREATE_S
                )
                trace("tasks.created")
            except BaseException:
                await shielded(_UNDO_S, self._shims.clean_up(bundle))
                raise
        io = {
            "stdin": stdio.stdin,
            "stdout": stdio.stdout,
            "stderr": stdio.stderr,
            "terminal": stdio.terminal,
        }
        self._tell("create", "TaskCreate", id, bundle=str(bundle.path), io=io, pid=answer.pid)
        return answer.pid

    async def _make_bundle(
        self, bundle: Bundle, spec: bytes, lock: Lock, files: dict[str, bytes]
    ) -> None:
        gid = root_group(spec)
        try:
            await to_thread(bundle.create, spec, lock, files, gid)
        except AlreadyExists:
            # What nobody can use any more does not block its name.
            if not await self._reclaim(bundle):
                raise
            await to_thread(bundle.create, spec, lock, files, gid)

    async def _reclaim(self, bundle: Bundle) -> bool:
        """Remove a task that was buried, or whose deletion or creation was cut short."""
        if await to_thread(grave, bundle) is not None:
            await to_thread(bundle.remove)
            return True
        try:
            await self._call(bundle, "State", pb.StateRequest(id=bundle.id), pb.StateResponse)
        except _Gone:
            await to_thread(bundle.remove)
            return True
        except NotFound:
            # The shim has no such container: unless somebody is at it just now, its name is free.
            return await self._shims.shut_down(bundle, wait_s=0)
        except SampanError as err:
            log.debug("task is not reclaimed: container=%s: %s", bundle.id, err)
        return False

    async def start(self, id: str, exec_id: str = "") -> int:
        request = pb.StartRequest(id=id, exec_id=exec_id)
        trace("tasks.starting")
        answer = await self._ask(id, "Start", request, pb.StartResponse, timeout_s=_SLOW_S)
        trace("tasks.started")
        if exec_id:
            self._tell("exec-started", "TaskExecStarted", id, exec_id=exec_id, pid=answer.pid)
        else:
            self._tell("start", "TaskStart", id, pid=answer.pid)
        return answer.pid

    async def exec(self, id: str, exec_id: str, process: bytes | Opaque, stdio: Stdio) -> None:
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
        await self._ask(id, "Exec", request, Empty)
        trace("tasks.exec_added")
        self._tell("exec-added", "TaskExecAdded", id, exec_id=exec_id)

    # --- the end -------------------------------------------------------------------------

    async def kill(self, id: str, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        bundle = self._bundle(id)
        request = pb.KillRequest(id=id, exec_id=exec_id, signal=signal, all=all)
        try:
            await self._call(bundle, "Kill", request, Empty)
        except _Gone:
            raise NotFound("process already finished: not found") from None
        except DeadlineExceeded:
            if signal != _SIGKILL or exec_id:
                raise
            await self._bury(bundle, force=True)

    async def wait(self, id: str, exec_id: str = "") -> Exit:
        request = pb.WaitRequest(id=id, exec_id=exec_id)
        try:
            answer = await self._call(
                self._bundle(id), "Wait", request, pb.WaitResponse, timeout_s=None
            )
        except _Gone as gone:
            return gone.ended
        return Exit(0, answer.exit_status, _ns(answer.exited_at))

    async def delete(self, id: str, exec_id: str = "", *, force: bool = False) -> Exit:
        bundle = self._bundle(id)
        request = pb.DeleteRequest(id=id, exec_id=exec_id)
        try:
            if force and not exec_id:
                await self._end(bundle)
            answer = await self._call(
                bundle, "Delete", request, pb.DeleteResponse, timeout_s=_SLOW_S if force else 20
            )
        except _Gone as gone:
            return gone.ended if exec_id else await self._remove(bundle, gone.ended)
        except DeadlineExceeded:
            if exec_id:
                raise
            forced = await self._bury(bundle, force=True)
            if forced is None:
                raise
            return await self._remove(bundle, forced)
        trace("tasks.deleted")
        ended = Exit(answer.pid, answer.exit_status, _ns(answer.exited_at))
        if not exec_id:
            await shielded(30, self._shims.shut_down(bundle))
            self._tell("delete", "TaskDelete", id, **_end_fields(ended))
        return ended

    async def _end(self, bundle: Bundle) -> None:
        """Kill a task that runs, and wait for its end."""
        request = pb.KillRequest(id=bundle.id, signal=_SIGKILL, all=True)
        try:
            await self._call(bundle, "Kill", request, Empty)
        except (NotFound, FailedPrecondition):
            return
        try:
            wait = pb.WaitRequest(id=bundle.id)
            await self._call(bundle, "Wait", wait, pb.WaitResponse, timeout_s=20)
        except NotFound:
            return

    async def _remove(self, bundle: Bundle, ended: Exit) -> Exit:
        """Delete a buried task."""
        if not await to_thread(bundle.exists):
            raise NotFound(f"task {bundle.id}: not found")
        await to_thread(bundle.remove)
        self._publish("delete", "TaskDelete", bundle, **_end_fields(ended))
        return ended

    # --- questions and changes -----------------------------------------------------------

    async def state(self, id: str, exec_id: str = "") -> ProcessState:
        return await self._state_of(self._bundle(id), exec_id)

    async def _state_of(self, bundle: Bundle, exec_id: str = "") -> ProcessState:
        request = pb.StateRequest(id=bundle.id, exec_id=exec_id)
        try:
            answer = await self._call(bundle, "State", request, pb.StateResponse)
        except _Gone as gone:
            ended = gone.ended
            return ProcessState(
                id=bundle.id,
                exec_id=exec_id,
                pid=ended.pid,
                status=Status.STOPPED,
                stdio=Stdio(),
                exit_status=ended.status,
                exited_at_ns=ended.exited_at_ns,
                bundle=str(bundle.path),
            )
        return ProcessState(
            id=bundle.id,
            exec_id=exec_id,
            pid=answer.pid,
            status=Status(answer.status),
            stdio=Stdio(answer.stdin, answer.stdout, answer.stderr, answer.terminal),
            exit_status=answer.exit_status,
            exited_at_ns=_ns(answer.exited_at),
            bundle=answer.bundle,
        )

    async def list(self) -> builtins.list[ProcessState]:
        found = await to_thread(lambda: list(bundles(self._state, context.namespace())))
        states: builtins.list[ProcessState] = []

        async def one(bundle: Bundle) -> None:
            try:
                states.append(await self._state_of(bundle))
            except NotFound:
                log.debug("task went away while listed: container=%s", bundle.id)
            except SampanError as err:
                log.warning("task does not answer: container=%s: %s", bundle.id, err)

        async with asyncio.TaskGroup() as group:
            for bundle in found:
                group.create_task(one(bundle))
        return sorted(states, key=lambda state: state.id)

    async def pause(self, id: str) -> None:
        await self._ask(id, "Pause", pb.PauseRequest(id=id), Empty)
        self._tell("paused", "TaskPaused", id)

    async def resume(self, id: str) -> None:
        await self._ask(id, "Resume", pb.ResumeRequest(id=id), Empty)
        self._tell("resumed", "TaskResumed", id)

    async def pids(self, id: str) -> Sequence[Pid]:
        answer = await self._ask(id, "Pids", pb.PidsRequest(id=id), pb.PidsResponse)
        return [
            Pid(one.pid, Opaque(one.info.type_url, one.info.value) if one.info else None)
            for one in answer.processes
        ]

    async def stats(self, id: str) -> Opaque:
        answer = await self._ask(id, "Stats", pb.StatsRequest(id=id), pb.StatsResponse)
        stats = answer.stats or Any()
        return Opaque(stats.type_url, stats.value)

    async def update(self, id: str, resources: Opaque) -> None:
        packed = Any(type_url=resources.type_url, value=resources.value)
        await self._ask(id, "Update", pb.UpdateTaskRequest(id=id, resources=packed), Empty)

    async def checkpoint(self, id: str, path: str, options: Opaque | None = None) -> None:
        packed = Any(type_url=options.type_url, value=options.value) if options else None
        request = pb.CheckpointTaskRequest(id=id, path=path, options=packed)
        await self._ask(id, "Checkpoint", request, Empty, timeout_s=_CREATE_S)
        self._tell("checkpointed", "TaskCheckpointed", id, checkpoint=path)

    async def resize(self, id: str, width: int, height: int, exec_id: str = "") -> None:
        request = pb.ResizePtyRequest(id=id, exec_id=exec_id, width=width, height=height)
        await self._ask(id, "ResizePty", request, Empty)

    async def close_stdin(self, id: str, exec_id: str = "") -> None:
        request = pb.CloseIORequest(id=id, exec_id=exec_id, stdin=True)
        await self._ask(id, "CloseIO", request, Empty)

    async def reopen_logs(self, id: str, exec_id: str = "") -> None:
        """Open the log files of a process anew, after somebody has renamed them; our shims only."""
        shim = await self._shims.connect(self._bundle(id))
        request = own.ReopenLogsRequest(id=id, exec_id=exec_id)
        await shim.call("ReopenLogs", request, Empty, service=own.SERVICE)

    # --- dead shims ----------------------------------------------------------------------

    async def sweep(self) -> None:
        """Remove what creations and removals that were cut short have left on disk."""
        await to_thread(sweep, self._state)

    async def recover(self) -> int:
        """Connect to every shim of every namespace, bury the dead; return how many live.

        A shim that does not answer is left to whoever deletes its task.
        """
        await self.sweep()
        alive = 0
        for bundle in await to_thread(lambda: list(bundles(self._state))):
            if await to_thread(grave, bundle) is not None:
                continue
            with context.scope(bundle.namespace):
                alive += await self._recovered(bundle)
        return alive

    async def _recovered(self, bundle: Bundle) -> bool:
        request = pb.StateRequest(id=bundle.id)
        try:
            await self._call(bundle, "State", request, pb.StateResponse, timeout_s=2)
        except _Gone:
            return False
        except NotFound:
            # Its creation or deletion was cut short: unless somebody is at it just now, end it.
            with Lock() as lock:
                try:
                    await to_thread(lock.take, bundle.path)
                except (FileNotFoundError, Unavailable):
                    return False
                await self._shims.clean_up(bundle)
            return False
        except SampanError as err:
            log.warning("shim does not answer: container=%s: %s", bundle.id, err)
        return True

    async def _ask(
        self, id: str, method: str, request: Message, answer: type[M], *, timeout_s: float = 10.0
    ) -> M:
        try:
            return await self._call(self._bundle(id), method, request, answer, timeout_s=timeout_s)
        except _Gone:
            raise NotFound(f"task {id}: its shim is gone and it was killed: not found") from None

    async def _call(
        self,
        bundle: Bundle,
        method: str,
        request: Message,
        answer: type[M],
        *,
        timeout_s: float | None = 10.0,
    ) -> M:
        while True:
            shim: Shim | None = None
            try:
                shim = await self._shims.connect(bundle)
                return await shim.call(method, request, answer, timeout_s=timeout_s)
            except Unavailable:
                # Its own answer; or it is we who hang up, and the task lives on.
                if (shim is not None and shim.alive) or self._shims.closed:
                    raise
            ended = await self._bury(bundle)
            if ended is not None:
                raise _Gone(ended)

    async def _bury(self, bundle: Bundle, *, force: bool = False) -> Exit | None:
        buried = await self._shims.bury(bundle, force=force)
        if buried is None:
            return None
        if buried.first:
            fields = {"id": bundle.id, **_end_fields(buried.exit)}
            self._publish("exit", "TaskExit", bundle, **fields)
        return buried.exit

    def _watch(self, shim: Shim) -> None:
        shim.gone.add_done_callback(partial(self._lost, shim))

    def _lost(self, shim: Shim, _: object) -> None:
        if shim.leaving:
            return
        burial = asyncio.get_running_loop().create_task(self._notice(shim.bundle))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    async def _notice(self, bundle: Bundle) -> None:
        try:
            if await self._bury(bundle) is None:
                # It seemed to listen still: a dying process closes one socket after the other.
                request = pb.StateRequest(id=bundle.id)
                await self._call(bundle, "State", request, pb.StateResponse)
        except _Gone:
            log.debug("task of a dead shim has ended: container=%s", bundle.id)
        except NotFound:
            log.debug("task was deleted when its shim ended: container=%s", bundle.id)
        except SampanError:
            log.exception("task of a dead shim stays: container=%s", bundle.id)

    async def close(self) -> None:
        """Wait for burials under way."""
        if self._burials:
            await asyncio.wait(self._burials)

    def _tell(self, topic: str, name: str, container: str, **fields: object) -> None:
        if not self._quiet:
            event = Event(f"containerd.events.{name}", {"container_id": container, **fields})
            self._events.publish(f"/tasks/{topic}", event)

    def _publish(self, topic: str, name: str, bundle: Bundle, **fields: object) -> None:
        event = Event(f"containerd.events.{name}", {"container_id": bundle.id, **fields})
        self._events.publish(f"/tasks/{topic}", event, namespace=bundle.namespace)


def _mount(one: Mount) -> types.Mount:
    return types.Mount(
        type=one.type, source=one.source, target=one.target, options=list(one.options)
    )


def _end_fields(ended: Exit) -> dict[str, object]:
    return {"pid": ended.pid, "exit_status": ended.status, "exited_at": ended.exited_at_ns}


def _ns(time: Timestamp | None) -> int:
    return time.ns if time is not None else 0
