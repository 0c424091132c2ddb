"""What the shim asks of an OCI runtime, whether it runs in process or as a program."""

from __future__ import annotations

from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol
else:  # `typing` would stay in the memory of every zygote
    Protocol = object

__all__ = ["Born", "CheckpointWanted", "RestoreWanted", "Runtime"]


class Born:
    """A process that was created; a child of the shim, or one that it has adopted."""

    __slots__ = ("console", "group", "pid")

    def __init__(self, pid: int, console: int = -1, group: str = "") -> None:
        self.pid = pid
        self.console = console
        """Master of its terminal, owned by whoever holds this; -1 without one."""
        self.group = group
        """Of an exec: what `kill_exec` calls all of its processes; "" where there is no such."""


class CheckpointWanted:
    """Where to put an image and how to make it; the names are runc's."""

    __slots__ = (
        "cgroups_mode", "empty_ns", "ext_unix_sk", "file_locks", "image_path", "leave_running",
        "parent_path", "shell_job", "tcp_established", "work_path",
    )  # fmt: skip

    def __init__(
        self,
        image_path: str,
        *,
        work_path: str = "",
        parent_path: str = "",
        leave_running: bool = True,
        tcp_established: bool = False,
        ext_unix_sk: bool = False,
        shell_job: bool = False,
        file_locks: bool = False,
        empty_ns: tuple[str, ...] = (),
        cgroups_mode: str = "",
    ) -> None:
        self.image_path = image_path
        self.work_path = work_path
        self.parent_path = parent_path
        self.leave_running = leave_running
        self.tcp_established = tcp_established
        self.ext_unix_sk = ext_unix_sk
        self.shell_job = shell_job
        self.file_locks = file_locks
        self.empty_ns = empty_ns
        self.cgroups_mode = cgroups_mode


class RestoreWanted:
    """The image to come back from."""

    __slots__ = ("image_path", "work_path")

    def __init__(self, image_path: str, work_path: str = "") -> None:
        self.image_path = image_path
        self.work_path = work_path


class Runtime(Protocol):
    """One container's runtime. Every method may raise SampanError, with the runtime's own words."""

    direct_signals: bool
    """Whether a signal to the pid that `create` gave is a signal to the container's init."""

    def save(self) -> tuple[Any, ...]:
        """Return plain values that make another like this; the first names the kind."""

    async def create(
        self,
        stdio: tuple[int, int, int],
        *,
        terminal: bool,
        restore: RestoreWanted | None,
        mounting: Callable[[], Callable[[], None]],
    ) -> Born:
        """Create from the bundle; with `restore`, from that checkpoint, running.

        `mounting()` mounts the rootfs and returns how to undo that; it is undone if this fails,
        when nothing of the container is left behind.
        """

    async def start(self) -> None:
        """Let init go."""

    async def exec(
        self, exec_id: str, process: bytes, stdio: tuple[int, int, int], *, terminal: bool
    ) -> Born:
        """Run another process, given as JSON."""

    async def kill_exec(self, group: str, pid: int, signal: int) -> None:
        """Signal every process of an exec: `group` and `pid` are those of its `Born`."""

    async def remove_exec(self, group: str) -> None:
        """Forget an exec that has ended."""

    async def kill(self, signal: int, *, everything: bool) -> None:
        """Signal init, or every process of the container."""

    async def delete(self, *, force: bool) -> None:
        """Remove what the runtime keeps; a container that it does not know is fine."""

    async def pause(self) -> None:
        """Freeze."""

    async def resume(self) -> None:
        """Thaw."""

    async def update(self, resources: bytes) -> None:
        """Change limits, given as JSON LinuxResources."""

    async def checkpoint(self, wanted: CheckpointWanted) -> None:
        """Write an image."""
