"""sampand and containerd, each with root, state and socket of its own, ended by pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc  # type: ignore[import-untyped]

from bench.stage import reap, state_folder, unmount_below
from sampan.testing import SESSION
from sampan.testing.inventory import descendants

NAMESPACE = f"bench-{SESSION.tag}"
_START_S = 30.0


class Daemon:
    """A running daemon and what tells its processes from others'."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], folder: Path, state: Path
    ) -> None:
        self.name = name
        self.process = process
        self.folder = folder
        """Root, socket and log; the state is on a tmpfs."""
        self.state = state
        self.socket = folder / "d.sock"

    def processes(self) -> list[int]:
        """Return the daemon and all that works for it, but not the containers' own processes."""
        found = [self.process.pid, *descendants(self.process.pid)]
        if self.name == "containerd":  # its shims have left it
            mine = os.fsencode(self.socket)
            found += [pid for pid in descendants(os.getpid()) if mine in _command(pid)]
        return sorted({pid for pid in found if not _in_container(pid)})

    def pss_mib(self) -> float:
        """Return the memory of all of them: what is shared counts by its share."""
        return sum(pss_kib(pid) for pid in self.processes()) / 1024

    def pss_by_name(self) -> dict[str, float]:
        """Return the mean memory of the processes of each name, in MiB."""
        found: dict[str, list[float]] = {}
        for pid in self.processes():
            with suppress(OSError):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                found.setdefault(name, []).append(pss_kib(pid) / 1024)
        return {f"{len(each)} {name}": sum(each) / len(each) for name, each in found.items()}

    def cpu_s(self) -> float:
        """Return the processor time that its living processes and their dead children have used."""
        ticks = 0
        for pid in self.processes():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def ctr(self, *args: str) -> None:
        """Run ctr; raises CalledProcessError with its words."""
        command = ["ctr", "-a", str(self.socket), "-n", NAMESPACE, *args]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}{done.stdout}")


def pss_kib(pid: int) -> int:
    """Return a process's proportional set size; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _in_container(pid: int) -> bool:
    """Tell whether a process has a pid namespace of its own."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    return True


@contextmanager
def sampand(*, in_memory: bool = False) -> Iterator[Daemon]:
    """Run our daemon; containers must be gone when the block ends."""
    folder, state = _folder(in_memory), state_folder()
    command = [
        sys.executable, "-m", "sampan.daemon.main", "--root", str(folder / "root"),
        "--state", str(state), "--address", str(folder / "d.sock"),
    ]  # fmt: skip
    with _running("sampand", command, folder, state) as daemon:
        yield daemon


@contextmanager
def containerd(*, in_memory: bool = False) -> Iterator[Daemon]:
    """Run Debian's containerd, without its CRI plugin, which nobody here uses."""
    folder, state = _folder(in_memory), state_folder()
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{state}"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{folder}/d.sock"\n'
        '[plugins."io.containerd.internal.v1.opt"]\n'
        f'path = "{folder}/opt"\n'
    )
    command = ["containerd", "--config", str(config)]
    try:
        with _running("containerd", command, folder, state) as daemon:
            yield daemon
    finally:
        for parent in ("/run/containerd/runc", "/run/containerd/fifo"):
            with suppress(OSError):
                os.rmdir(f"{parent}/{NAMESPACE}")


def _folder(in_memory: bool) -> Path:
    return state_folder() if in_memory else SESSION.new_folder()


@contextmanager
def _running(name: str, command: list[str], folder: Path, state: Path) -> Iterator[Daemon]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    daemon = Daemon(name, process, folder, state)
    try:
        _wait_ready(daemon)
        yield daemon
    finally:
        left = [pid for pid in daemon.processes() if pid != process.pid]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        unmount_below(folder)
        unmount_below(state)
        reap()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_ready(daemon: Daemon) -> None:
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        ready = grpc.channel_ready_future(channel)
        end = time.monotonic() + _START_S
        while True:
            with suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.5)
                return
            if daemon.process.poll() is not None or time.monotonic() > end:
                said = (daemon.folder / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{daemon.name} did not start: {said}")
