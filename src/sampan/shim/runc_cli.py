"""An OCI runtime as a program, with runc's command line: runc, crun, runsc, sampan-oci.

Its errors are the last line of its `--log`, else what it printed.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Callable

from sampan.errors import DeadlineExceeded, NotFound, SampanError, Unknown
from sampan.linux.fds import unix_bind
from sampan.model.runtime.document import loads
from sampan.shim.processes import Processes
from sampan.shim.runtimes import Born, CheckpointWanted, RestoreWanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RuncCli"]

_TIMEOUT_S = 120.0
_CONSOLE_S = 10.0


class RuncCli:
    """One container of the runtime `binary`, whose state is in `root`."""

    direct_signals = False

    def __init__(
        self,
        processes: Processes,
        binary: str,
        root: str,
        id: str,
        bundle: str,
        *,
        systemd_cgroup: bool = False,
        create_flags: tuple[str, ...] = (),
    ) -> None:
        self._processes = processes
        self._id = id
        self._bundle = bundle
        self._log = os.path.join(bundle, "log.json")
        self._global = [binary, "--root", root, "--log", self._log, "--log-format", "json"]
        if systemd_cgroup:
            self._global.append("--systemd-cgroup")
        self._create_flags = create_flags
        self._saved = ("runc", binary, root, id, bundle, systemd_cgroup, create_flags)

    @classmethod
    def restored(
        cls,
        processes: Processes,
        binary: str,
        root: str,
        id: str,
        bundle: str,
        systemd_cgroup: bool,
        create_flags: tuple[str, ...],
    ) -> RuncCli:
        """Return another like the one that `save` was called on."""
        return cls(
            processes, binary, root, id, bundle,
            systemd_cgroup=systemd_cgroup, create_flags=create_flags,
        )  # fmt: skip

    def save(self) -> tuple[Any, ...]:
        """See Runtime."""
        return self._saved

    async def create(
        self,
        stdio: tuple[int, int, int],
        *,
        terminal: bool,
        restore: RestoreWanted | None,
        mounting: Callable[[], Callable[[], None]],
    ) -> Born:
        """See Runtime."""
        undo = mounting()
        try:
            return await self._create(stdio, terminal, restore)
        except BaseException:
            with contextlib.suppress(SampanError):
                await self.delete(force=True)
            undo()
            raise

    async def _create(
        self, stdio: tuple[int, int, int], terminal: bool, restore: RestoreWanted | None
    ) -> Born:
        command = ["create", "--bundle", self._bundle, *self._create_flags]
        if restore:
            command = ["restore", "--detach", "--bundle", self._bundle]
            command += ["--image-path", restore.image_path]
            if restore.work_path:
                command += ["--work-path", restore.work_path]
            command += self._create_flags
        return await self._birth(command, [], stdio, terminal, "init.pid")

    async def exec(
        self, exec_id: str, process: bytes, stdio: tuple[int, int, int], *, terminal: bool
    ) -> Born:
        """See Runtime."""
        path = os.path.join(self._bundle, f".exec-{exec_id}.json")
        _write(path, process)
        try:
            command = ["exec", "--detach", "--process", path]
            return await self._birth(command, [], stdio, terminal, f".{exec_id}.pid")
        finally:
            os.unlink(path)

    async def kill_exec(self, group: str, pid: int, signal: int) -> None:
        """See Runtime; a program cannot be asked to, so that its session must do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal)

    async def remove_exec(self, group: str) -> None:
        """See Runtime; there is nothing."""

    async def _birth(
        self,
        command: list[str],
        arguments: list[str],
        stdio: tuple[int, int, int],
        terminal: bool,
        pid_name: str,
    ) -> Born:
        pid_file = os.path.join(self._bundle, pid_name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pid_file)
        command = [*command, "--pid-file", pid_file]
        listener = None
        console = -1
        path = os.path.join(_new_folder(), "s") if terminal else ""
        try:
            if terminal:
                if command[0] == "exec":
                    command.append("--tty")
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                unix_bind(listener, path)
                listener.listen(1)
                command += ["--console-socket", path]
            await self._run([*command, *arguments], stdio=stdio)
            if listener is not None:
                console = await self._console(listener)
        finally:
            if listener is not None:
                listener.close()
            if path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                os.rmdir(os.path.dirname(path))
        return Born(self._read_pid(pid_file), console)

    def _read_pid(self, path: str) -> int:
        try:
            with open(path) as file:
                return int(file.read())
        except (OSError, ValueError) as err:
            raise Unknown(f"{self._global[0]}: wrote no pid file: {err}") from err

    async def _console(self, listener: socket.socket) -> int:
        """Take the terminal's master from whoever connects."""
        loop = self._processes.loop
        listener.setblocking(False)
        if not await loop.readable(listener.fileno(), _CONSOLE_S):
            raise DeadlineExceeded(f"{self._global[0]}: sent no terminal")
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(False)
            await loop.readable(connection.fileno(), _CONSOLE_S)
            fds = array.array("i", [-1])
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array("i", data[: fds.itemsize])
        if fds[0] < 0:
            raise Unknown(f"{self._global[0]}: sent no terminal")
        os.set_inheritable(fds[0], False)
        return fds[0]

    async def start(self) -> None:
        """See Runtime."""
        await self._run(["start"])

    async def kill(self, signal: int, *, everything: bool) -> None:
        """See Runtime."""
        flags = ["--all"] if everything else []
        await self._run(["kill", *flags], after=[str(signal)])

    async def delete(self, *, force: bool) -> None:
        """See Runtime."""
        with contextlib.suppress(NotFound):
            await self._run(["delete", "--force"] if force else ["delete"])

    async def pause(self) -> None:
        """See Runtime."""
        await self._run(["pause"])

    async def resume(self) -> None:
        """See Runtime."""
        await self._run(["resume"])

    async def update(self, resources: bytes) -> None:
        """See Runtime."""
        await self._run(["update", "--resources", "-"], stdin=resources)

    async def checkpoint(self, wanted: CheckpointWanted) -> None:
        """See Runtime."""
        flags = ["--image-path", wanted.image_path]
        for flag, value in (
            ("--work-path", wanted.work_path),
            ("--parent-path", wanted.parent_path),
            ("--manage-cgroups-mode", wanted.cgroups_mode),
        ):
            if value:
                flags += [flag, value]
        for namespace in wanted.empty_ns:
            flags += ["--empty-ns", namespace]
        for flag, asked in (
            ("--leave-running", wanted.leave_running),
            ("--tcp-established", wanted.tcp_established),
            ("--ext-unix-sk", wanted.ext_unix_sk),
            ("--shell-job", wanted.shell_job),
            ("--file-locks", wanted.file_locks),
        ):
            if asked:
                flags.append(flag)
        await self._run(["checkpoint", *flags])

    async def _run(
        self,
        command: list[str],
        *,
        after: list[str] | None = None,
        stdin: bytes = b"",
        stdio: tuple[int, int, int] | None = None,
    ) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log)
        argv = [*self._global, *command, self._id, *(after or [])]
        result = await self._processes.run(argv, stdin=stdin, stdio=stdio, timeout_s=_TIMEOUT_S)
        if result.status == 0:
            return
        text = self._last_error() or result.output.decode(errors="replace").strip()
        text = text or f"exit status {result.status}"
        what = f"{os.path.basename(argv[0])} {command[0]} failed: "
        message = what + text.removeprefix(what)
        gone = ("does not exist", "not running", "already finished")
        if command[0] not in ("create", "exec", "restore") and any(word in text for word in gone):
            raise NotFound(message)
        raise Unknown(f"OCI runtime {command[0]} failed: {message}")

    def _last_error(self) -> str:
        """Return the last message of level error in the log."""
        found = ""
        with contextlib.suppress(OSError), open(self._log, "rb") as log:
            for line in log.read(1 << 20).splitlines():
                with contextlib.suppress(ValueError, AttributeError):
                    entry = loads(line)
                    if entry.get("level") in ("error", "fatal"):
                        found = str(entry.get("msg", ""))
        return found


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _new_folder() -> str:
    """Make a folder of ours with a short path.

    Not by `tempfile`: it loads `random`, which every fork has to seed anew.
    """
    while True:
        path = f"/tmp/sampan-pty-{os.urandom(6).hex()}"  # noqa: S108  made 0700, and must be new
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        return path
