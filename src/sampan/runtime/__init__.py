"""Runtime, the third plank: tasks, which are containers with a process, in their shims.

    tasks = Tasks(state, shims, exchange)
    pid = await tasks.create("c1", spec=config_json, rootfs=mounts, stdio=Stdio(stdout=uri))
    await tasks.start("c1")                       # created -> running
    exit = await tasks.wait("c1")                 # whenever; also after the end, or elsewhere
    await tasks.delete("c1")                      # shim, mounts, cgroups and bundle are gone

What lies on disk, so that another process or a later start finds it again:

    <state>/                                                0711
      io.containerd.runtime.v2.task/<namespace>/<id>/       0700, the bundle, locked by flock
        config.json          the OCI spec
        runtime              the runtime's name
        options              containerd.runc.v1.Options, encoded, if any were given
        address              socket of the shim
        shim.pid             its pid and start time, against reused pids
        shim-binary-path     only of foreign shims, as are log, grpc-address, task-version
        ended                how init ended, as its shim saw it
        exit                 the same, once the shim has gone, or has died: then it may be 137
      s/<hash>               sockets of shims, 0700

The hot path costs one fork by the zygote and two calls over a socket pair: Create and Start.
Nothing is polled; Wait is a call that the shim answers when the process ends. Every other call has
a deadline.

**Who supervises.** Nobody need: a shim lives on by itself, keeps exit codes and writes logs. Any
process on the same state directory reconnects by `address`. A shim that died is found out when it
is asked: what its containers left is killed by cgroup, unmounted and deleted; Wait answers 137.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, Self

from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque

if TYPE_CHECKING:
    from sampan.runtime.bundle import Bundle
    from sampan.runtime.shims import Shims
    from sampan.runtime.tasks import LocalTasks

__all__ = [
    "Exit",
    "LocalTasks",
    "Pid",
    "ProcessState",
    "Shims",
    "Status",
    "Stdio",
    "Tasks",
]


class Status(Enum):
    """Of a process; the values are containerd's."""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a process reads and writes: URIs as the shim's front door lists them; empty is null."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    pid: int
    status: int
    """The exit code, or 128 + the signal."""
    exited_at_ns: int
    """Since the epoch; 0 when it never ran."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A process of a task as its shim sees it."""

    id: str
    exec_id: str
    pid: int
    status: Status
    stdio: Stdio
    exit_status: int = 0
    exited_at_ns: int = 0
    bundle: str = ""


class Pid(int):
    """A process of a container: a number, and what the shim knows of it, such as its exec id."""

    info: Opaque | None

    def __new__(cls, pid: int, info: Opaque | None = None) -> Self:
        made = super().__new__(cls, pid)
        made.info = info
        return made


class Tasks(Protocol):
    """The tasks of the namespace of the request. Empty `exec_id` means init.

    Each call raises NotFound where the task or the exec is unknown, DeadlineExceeded where the shim
    does not answer, and what the shim reports.
    """

    async def create(
        self,
        id: str,
        *,
        spec: bytes,
        rootfs: Sequence[Mount] = (),
        runtime: str = "",
        stdio: Stdio = ...,
        options: Opaque | None = None,
        checkpoint: str = "",
        owner_fd: int = -1,
        pod: Bundle | None = None,
    ) -> int:
        """Make the task, not yet running; return the pid of its init.

        Args:
          id: Of its container.
          spec: config.json, as bytes.
          rootfs: Mounted by the shim at `<bundle>/rootfs`.
          runtime: Name of the shim; empty is ours.
          stdio: Of init.
          options: For the shim.
          checkpoint: Folder of images to restore from.
          owner_fd: Borrowed; when it becomes readable, the shim ends the task. In process only.
          pod: Where the shim of its sandbox is found, which then takes this task, too.

        Raises:
          AlreadyExists: there is such a task.
        """
        ...

    async def start(self, id: str, exec_id: str = "") -> int:
        """Run the created process; return its pid."""
        ...

    async def exec(self, id: str, exec_id: str, process: bytes | Opaque, stdio: Stdio) -> None:
        """Add a process (JSON of `process` in config.json), to be started by `start`."""
        ...

    async def kill(self, id: str, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        """Send a signal to a process.

        With `all` to every process of the container; with an `exec_id`, too, to every process that
        came of that exec, those in sessions of their own included, and to nothing else.
        """
        ...

    async def wait(self, id: str, exec_id: str = "") -> Exit:
        """Wait for the end, without deadline; what is over is answered at once."""
        ...

    async def delete(self, id: str, exec_id: str = "", *, force: bool = False) -> Exit:
        """Remove the stopped process; for init the whole task. `force` kills it first."""
        ...

    async def state(self, id: str, exec_id: str = "") -> ProcessState: ...

    async def list(self) -> list[ProcessState]: ...

    async def pause(self, id: str) -> None: ...

    async def resume(self, id: str) -> None: ...

    async def checkpoint(self, id: str, path: str, options: Opaque | None = None) -> None:
        """Write the images of the running task into the folder `path`; options are the shim's."""
        ...

    async def pids(self, id: str) -> Sequence[Pid]: ...

    async def stats(self, id: str) -> Opaque: ...

    async def update(self, id: str, resources: Opaque) -> None: ...

    async def resize(self, id: str, width: int, height: int, exec_id: str = "") -> None: ...

    async def close_stdin(self, id: str, exec_id: str = "") -> None: ...


_HOMES = {"LocalTasks": "tasks", "Shims": "shims"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
