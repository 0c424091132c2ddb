"""Daemons of the test's own, started as programs, and plain gRPC clients of theirs."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.testing import require

_START_S = 30
_STOP_S = 20


class Daemon:
    """One sampand; `kill` and `start` it as often as you like."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.address = folder / "d.sock"
        self.log = folder / "log"
        self.flags = flags
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        """Start it and return when it says that it is ready."""
        folders = (
            *("--root", str(self.folder / "root")),
            *("--state", str(self.folder / "state")),
            *("--address", str(self.address)),
        )
        self._start([sys.executable, "-m", "sampan.daemon.main", *folders], env)

    def start_plain(self, **env: str) -> None:
        """Do so with nothing but `flags`: the config file says where it lives."""
        self._start([sys.executable, "-m", "sampan.daemon.main"], env)

    def start_activated(self, listening: socket.socket) -> None:
        """Do so as systemd does for a socket unit: the socket is fd 3."""
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            " os.environ['LISTEN_PID'] = str(os.getpid());"
            " os.execv(sys.argv[2], sys.argv[2:])"
        )
        folders = ("--root", f"{self.folder}/root", "--state", f"{self.folder}/state")
        program = (sys.executable, "-m", "sampan.daemon.main", *folders)
        number = listening.fileno()
        address = ("--address", str(self.address))
        self._start(
            [sys.executable, "-c", code, str(number), *program, *address],
            {"LISTEN_FDS": "1"},
            pass_fds=(number,),
        )

    def _start(self, argv: list[str], env: dict[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        notify = self.folder / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("ab") as log:
            ready.bind(str(notify))
            ready.settimeout(_START_S)
            self._process = subprocess.Popen(
                [*argv, "--log-level", "info", *self.flags],
                pass_fds=pass_fds,
                env={**os.environ, "NOTIFY_SOCKET": str(notify), **env},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
            self.pid = self._process.pid
            pidfd = os.pidfd_open(self.pid)
            try:
                readable = select.select([ready.fileno(), pidfd], [], [], _START_S)[0]
            finally:
                os.close(pidfd)
            assert ready.fileno() in readable, f"sampand did not start: {self.log.read_text()}"
            assert ready.recv(100) == b"READY=1"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and return its exit status."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        return process.wait(_STOP_S)

    def kill(self) -> None:
        """End it by SIGKILL, if it lives."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait(_STOP_S)

    def ctr(self, *words: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run Debian's ctr against it."""
        return subprocess.run(
            ["ctr", "-a", str(self.address), *words],
            capture_output=True,
            text=True,
            input=input,
            timeout=60,
            check=False,
        )

    def ok(self, *words: str) -> str:
        """Do so and return its output; it must succeed."""
        done = self.ctr(*words)
        assert done.returncode == 0, f"ctr {words}: {done.stderr}\n{self.log.read_text()}"
        return done.stdout

    def shims(self) -> list[int]:
        """Return the pids of its shims."""
        files = (self.folder / "state/io.containerd.runtime.v2.task").glob("*/*/shim.pid")
        return [int(file.read_text().split()[0]) for file in files]

    def close(self) -> None:
        """End it and every task."""
        if self._process is not None:
            self.stop(signal.SIGKILL)
        for pid in self.shims():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stopped(short_path: Path) -> Iterator[Daemon]:
    """A daemon that was not started yet."""
    require("root")
    made = Daemon(short_path)
    yield made
    made.close()


@pytest.fixture
def daemon(stopped: Daemon) -> Daemon:
    """A daemon that serves."""
    stopped.start()
    return stopped


@pytest.fixture
def ctr(daemon: Daemon) -> Daemon:
    """A daemon to be asked by ctr."""
    if shutil.which("ctr") is None:
        require("ctr")
    return daemon
