"""Driving an OCI runtime by its command line: ours in both entries, and its peers.

    runtime.run(bundle, "sh", "-c", "id")     one whole life; stdout, stderr and the exit code
    runtime.create(bundle, "sleep", "60"); runtime.start(id); runtime.exec(id, "id")
    runtime.kill(id); runtime.wait(id); runtime.delete(id)

Output goes to files, never to pipes: a container that lives on would keep a pipe open. The pytest
process is a subreaper, so inits become its children, and `wait` learns their exit codes.
"""

from __future__ import annotations

import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from sampan.testing.bundle import Bundle
from sampan.testing.requirements import missing
from sampan.zygote import Zygote

__all__ = ["ENTRIES", "ExecEntry", "ForkEntry", "RunResult", "Runtime", "available", "sampan_oci"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a command ended. `returncode` is 128+n after signal n, as a shell has it."""

    returncode: int
    stdout: str
    stderr: str
    elapsed_s: float = 0.0


class Entry(Protocol):
    """A way into a runtime: run it with `argv`, and return its exit code.

    Raises TimeoutError when it did not end in time, and has been killed.
    """

    def run(
        self, argv: Sequence[str], stdio: tuple[int, int, int], cwd: Path, timeout_s: float
    ) -> int: ...

    def close(self) -> None: ...


class ExecEntry:
    """The runtime is exec'd, as podman, docker and containerd's shim do."""

    def __init__(self, *command: str) -> None:
        self._command = command

    def run(
        self, argv: Sequence[str], stdio: tuple[int, int, int], cwd: Path, timeout_s: float
    ) -> int:
        stdin, stdout, stderr = stdio
        process = subprocess.Popen(
            [*self._command, *argv], stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd
        )
        process.returncode = 0  # we wait by pidfd; this keeps Popen from it
        return wait_for(process.pid, timeout_s, " ".join(argv))

    def close(self) -> None:
        pass


def sampan_oci() -> tuple[str, ...]:
    """Return the command of our runtime as installed beside this interpreter."""
    script = Path(sys.executable).with_name("sampan-oci")
    if script.exists():
        return (str(script),)
    return (sys.executable, "-m", "sampan.oci")


class Runtime:
    """One runtime with a state folder of its own; `close` removes what tests left in it."""

    def __init__(self, name: str, entry: Entry, root: Path, *flags: str) -> None:
        self.name = name
        self.root = root
        self.entry = entry
        self._flags = flags
        self._pids: dict[str, int] = {}
        """Containers that may be left, and their inits where known."""

    def __repr__(self) -> str:
        return f"<Runtime {self.name}>"

    @property
    def ours(self) -> bool:
        """Whether it is Sampan, however entered."""
        return self.name.startswith("sampan")

    def call(
        self,
        *args: str,
        cwd: Path = Path("/"),
        stdin: bytes | int = b"",
        stdout: int = -1,
        stderr: int = -1,
        timeout_s: float = 30,
    ) -> RunResult:
        """Run the runtime's command line and wait for it (not for the containers it leaves).

        Fds given as `stdin`, `stdout`, `stderr` are borrowed; output sent there is not returned.

        Raises:
          TimeoutError: it did not end; it has been killed.
        """
        began = time.monotonic()
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            _input(stdin) as given,
        ):
            stdio = (
                given.fileno() if not isinstance(stdin, int) else stdin,
                out.fileno() if stdout < 0 else stdout,
                err.fileno() if stderr < 0 else stderr,
            )
            argv = ["--root", str(self.root), *self._flags, *args]
            code = self.entry.run(argv, stdio, cwd, timeout_s)
            elapsed = time.monotonic() - began
            return RunResult(code, _text(out), _text(err), elapsed)

    def run(
        self,
        bundle: Bundle,
        *args: str,
        stdin: bytes | int = b"",
        timeout_s: float = 30,
        flags: Sequence[str] = (),
        **changes: object,
    ) -> RunResult:
        """Run a container from creation to deletion; see `Bundle.with_changes` for `changes`."""
        bundle.write(bundle.with_changes(args, **changes))
        self._pids[bundle.id] = 0
        command = ("run", "--bundle", str(bundle.path), *flags, bundle.id)
        return self.call(*command, stdin=stdin, timeout_s=timeout_s)

    def create(
        self, bundle: Bundle, *args: str, flags: Sequence[str] = (), **changes: object
    ) -> str:
        """Create a container, its output in `bundle.path`/{stdout,stderr}, and return its id.

        Raises:
          AssertionError: the runtime refused; its words are in the text.
        """
        bundle.write(bundle.with_changes(args, **changes))
        self._pids[bundle.id] = 0
        pid_file = bundle.path / "pid"
        with (bundle.path / "stdout").open("wb") as out, (bundle.path / "stderr").open("wb") as err:
            options = ("--bundle", str(bundle.path), "--pid-file", str(pid_file), *flags)
            result = self.call(
                "create", *options, bundle.id, stdout=out.fileno(), stderr=err.fileno()
            )
        assert result.returncode == 0, f"{self.name}: {(bundle.path / 'stderr').read_text()}"
        self._pids[bundle.id] = int(pid_file.read_text())
        return bundle.id

    def start(self, id: str) -> None:
        self._must("start", id)

    def state(self, id: str) -> dict[str, Any]:
        """Return what `state` prints."""
        state: dict[str, Any] = json.loads(self._must("state", id).stdout)
        return state

    def exec(
        self, id: str, *args: str, flags: Sequence[str] = (), timeout_s: float = 30
    ) -> RunResult:
        return self.call("exec", *flags, id, *args, timeout_s=timeout_s)

    def kill(self, id: str, signal_name: str = "KILL") -> None:
        self._must("kill", id, signal_name)

    def wait(self, id: str, timeout_s: float = 30) -> int:
        """Wait for the container's init and return its exit code."""
        return wait_for(self._pids[id], timeout_s, f"init of {id}")

    def pid(self, id: str) -> int:
        """Return the pid of the init of a container that `create` has made."""
        return self._pids[id]

    def delete(self, id: str, *, force: bool = False) -> None:
        self._must("delete", *(["--force"] if force else []), id)
        del self._pids[id]

    def close(self) -> None:
        """Delete the containers that are left, and reap their inits."""
        for name, pid in self._pids.items():
            self.call("delete", "--force", name)
            if pid:
                wait_for(pid, 10, f"init of {name}", or_gone=True)
        self.entry.close()

    def _must(self, *args: str) -> RunResult:
        result = self.call(*args)
        assert result.returncode == 0, f"{self.name} {' '.join(args)}: {result.stderr}"
        return result


def wait_for(pid: int, timeout_s: float, what: str, *, or_gone: bool = False) -> int:
    """Wait for a child by pidfd and return its exit code, 128+n after signal n.

    Raises:
      TimeoutError: it did not end in time; it has been killed and reaped.
    """
    try:
        fd = os.pidfd_open(pid)
        try:
            ended = select.select([fd], [], [], timeout_s)[0]
            if not ended:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            status = os.waitid(os.P_PIDFD, fd, os.WEXITED)
        finally:
            os.close(fd)
    except (ProcessLookupError, ChildProcessError):
        if or_gone:
            return 0
        raise
    if not ended:
        raise TimeoutError(f"{what} did not end within {timeout_s} s")
    assert status is not None
    return status.si_status + (0 if status.si_code == os.CLD_EXITED else 128)


def _input(stdin: bytes | int) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    if not isinstance(stdin, int):
        file.write(stdin)
        file.seek(0)
    return file


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")


class ForkEntry:
    """Our runtime's command line in a worker forked from a zygote: no exec, no import.

    The zygote is a subreaper's child of ours, but its workers are its own children: it is the
    zygote that tells how they ended. Inits that a worker leaves come to us, once it has ended.
    """

    def __init__(self) -> None:
        self._zygote = Zygote.start(preload=("sampan.oci.main", "sampan.oci.preloading", __name__))

    def run(
        self, argv: Sequence[str], stdio: tuple[int, int, int], cwd: Path, timeout_s: float
    ) -> int:
        payload = json.dumps([str(cwd), *argv]).encode()
        with self._zygote.fork(f"{__name__}:worker", payload, stdio=stdio) as child:
            try:
                status = child.wait(timeout_s)
            except TimeoutError:
                child.signal(signal.SIGKILL)
                child.wait(5)
                raise
        return status if status >= 0 else 128 - status

    def close(self) -> None:
        self._zygote.close()


def worker(payload: bytes, fds: list[int]) -> int:
    """Run one command of `sampan-oci`, called by the zygote in a fresh child."""
    from sampan.oci.main import main  # loaded by the zygote already

    cwd, *argv = json.loads(payload)
    os.chdir(cwd)
    return main(argv)


ENTRIES: dict[str, Callable[[], Entry]] = {
    "sampan-exec": lambda: ExecEntry(*sampan_oci()),
    "sampan-fork": ForkEntry,
    "runc": lambda: ExecEntry(shutil.which("runc") or "/usr/sbin/runc"),
    "crun": lambda: ExecEntry(shutil.which("crun") or "/usr/bin/crun"),
}


@functools.cache
def available() -> tuple[str, ...]:
    """Return the runtimes to test with: ours and runc always, crun where it can work.

    crun before 1.9 refuses hybrid cgroups, which is no defect of ours and no news.
    """
    names = ["sampan-exec", "sampan-fork", "runc"]
    if not missing("crun") and (missing("cgroup:hybrid") or not missing("crun>=1.9")):
        names.append("crun")
    return tuple(names)
