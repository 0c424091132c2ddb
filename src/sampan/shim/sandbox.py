"""The Sandbox service of a shim that groups a pod's containers and needs no pause container."""

from __future__ import annotations

import os
import time

from sampan.errors import AlreadyExists, FailedPrecondition, NotFound
from sampan.rpc.loop import Future, Loop
from sampan.rpc.messages import events, sandbox, types
from sampan.rpc.messages.wellknown import Any, Timestamp
from sampan.rpc.server import Context, Method
from sampan.rpc.wire import Message
from sampan.shim import cgroup
from sampan.shim.publisher import Publisher
from sampan.shim.reaper import Exit
from sampan.shim.service import TaskService

__all__ = ["SandboxService"]

_HANDLERS = {
    "CreateSandbox": "create",
    "StartSandbox": "start",
    "Platform": "platform",
    "StopSandbox": "stop",
    "WaitSandbox": "wait",
    "SandboxStatus": "status",
    "PingSandbox": "ping",
    "ShutdownSandbox": "shut_down",
    "SandboxMetrics": "metrics",
}


def _machine() -> str:
    """Return Go's name of this machine's architecture."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


class SandboxService:
    """One sandbox: its containers are those of the Task service beside it."""

    def __init__(self, loop: Loop, tasks: TaskService, publisher: Publisher) -> None:
        self._loop = loop
        self._tasks = tasks
        self._publisher = publisher
        self._id = ""
        self._created_ns = 0
        self._started = False
        self._exit: Exit | None = None
        self._exited: Future[Exit] = Future()

    @property
    def wanted(self) -> bool:
        """Whether somebody has made a sandbox of this shim, which then outlives its containers."""
        return bool(self._id)

    def methods(self) -> dict[str, Method]:
        """Return the service's table."""
        return {
            name: Method(request, getattr(self, _HANDLERS[name]), resumable=name == "WaitSandbox")
            for name, (request, _) in sandbox.METHODS.items()
        }

    def save(self) -> tuple[str, int, bool, tuple[int, int] | None]:
        """Return what another server needs to know."""
        end = (self._exit.status, self._exit.at_ns) if self._exit else None
        return self._id, self._created_ns, self._started, end

    def restore(self, saved: tuple[str, int, bool, tuple[int, int] | None]) -> None:
        """Go on where another server has stopped."""
        self._id, self._created_ns, self._started, end = saved
        if end is not None:
            self._exit = Exit(*end)
            self._exited.set(self._exit)

    def _check(self, id: str) -> None:
        if not self._id or id != self._id:
            raise NotFound(f"sandbox {id}: not found")

    async def create(self, request: sandbox.CreateSandboxRequest, _: Context) -> Message:
        """Name the sandbox."""
        if self._id:
            raise AlreadyExists(f"sandbox {self._id} already exists in this shim")
        self._id = request.sandbox_id
        self._created_ns = time.time_ns()
        created = events.SandboxCreate(sandbox_id=self._id)
        self._publisher.publish("/sandbox/create", created)
        return sandbox.CreateSandboxResponse()

    async def start(self, request: sandbox.StartSandboxRequest, _: Context) -> Message:
        """Take containers from now on."""
        self._check(request.sandbox_id)
        if self._started:
            raise FailedPrecondition(f"sandbox {self._id} has been started")
        self._started = True
        self._publisher.publish("/sandbox/start", events.SandboxStart(sandbox_id=self._id))
        created = Timestamp.of_ns(self._created_ns)
        return sandbox.StartSandboxResponse(pid=os.getpid(), created_at=created)

    async def platform(self, request: sandbox.PlatformRequest, _: Context) -> Message:
        """Tell what runs here."""
        self._check(request.sandbox_id)
        here = types.Platform(os="linux", architecture=_machine())
        return sandbox.PlatformResponse(platform=here)

    async def stop(self, request: sandbox.StopSandboxRequest, _: Context) -> Message:
        """End every container, and the sandbox."""
        self._check(request.sandbox_id)
        if self._exit is None:
            await self._tasks.kill_all()
            self._end()
        return sandbox.StopSandboxResponse()

    def _end(self) -> None:
        self._exit = Exit(0, time.time_ns())
        self._publisher.publish(
            "/sandbox/exit",
            events.SandboxExit(
                sandbox_id=self._id, exit_status=0, exited_at=Timestamp.of_ns(self._exit.at_ns)
            ),
        )
        self._exited.set(self._exit)

    async def wait(self, request: sandbox.WaitSandboxRequest, _: Context) -> Message:
        """Answer when the sandbox has stopped."""
        self._check(request.sandbox_id)
        end = await self._exited
        return sandbox.WaitSandboxResponse(
            exit_status=end.status, exited_at=Timestamp.of_ns(end.at_ns)
        )

    async def status(self, request: sandbox.SandboxStatusRequest, _: Context) -> Message:
        """Tell how it is."""
        self._check(request.sandbox_id)
        ready = self._started and self._exit is None
        answer = sandbox.SandboxStatusResponse(
            sandbox_id=self._id,
            pid=os.getpid(),
            state="SANDBOX_READY" if ready else "SANDBOX_NOTREADY",
            created_at=Timestamp.of_ns(self._created_ns),
        )
        if self._exit is not None:
            answer.exited_at = Timestamp.of_ns(self._exit.at_ns)
        if request.verbose:
            answer.info["containers"] = ",".join(sorted(self._tasks.containers))
        return answer

    async def ping(self, request: sandbox.PingRequest, _: Context) -> Message:
        """Answer."""
        self._check(request.sandbox_id)
        return sandbox.PingResponse()

    async def shut_down(self, request: sandbox.ShutdownSandboxRequest, _: Context) -> Message:
        """End everything, and the shim."""
        self._check(request.sandbox_id)
        if self._exit is None:
            await self._tasks.kill_all()
            self._end()
        self._loop.call_soon(self._tasks.shutdown)
        return sandbox.ShutdownSandboxResponse()

    async def metrics(self, request: sandbox.SandboxMetricsRequest, _: Context) -> Message:
        """Read the cgroups of the shim itself, which a pod's cgroup contains."""
        self._check(request.sandbox_id)
        metric = types.Metric(
            timestamp=Timestamp.of_ns(time.time_ns()),
            id=self._id,
            data=Any.pack(cgroup.metrics(os.getpid())),
        )
        return sandbox.SandboxMetricsResponse(metrics=metric)
