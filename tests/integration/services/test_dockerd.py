"""Debian's dockerd on top of us, by `--containerd`: what docker then says, as on containerd."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sampan.testing import require, requires, unique_name
from sampan.testing.daemons import Daemon, masked
from sampan.testing.session import SESSION

pytestmark = requires("root", "dockerd", "docker", "containerd", "runc", "busybox")

IMAGE: Final = "example.com/box:1"
BOX: Final = ("--network", "none", IMAGE)
_START_S: Final = 60
_DOCKER_S: Final = 60


class Docker:
    """A dockerd of the tests' own, on a daemon that speaks containerd's API."""

    def __init__(self, below: Daemon) -> None:
        self.below = below
        self.folder = below.folder / "docker"
        self.folder.mkdir()
        self.socket = self.folder / "s"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        folder = self.folder
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("dockerd", "--containerd", str(self.below.address)),
                    *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
                    *("--pidfile", str(folder / "pid"), "-H", f"unix://{self.socket}"),
                    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
                    *("--ip-forward=false", "--ip-masq=false", "--storage-driver=vfs"),
                    *("--live-restore", "--shutdown-timeout=5"),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        pidfd = os.pidfd_open(self._process.pid)
        try:
            for _ in range(_START_S * 5):
                if self.docker("version").returncode == 0:
                    return
                if select.select([pidfd], [], [], 0.2)[0]:
                    break
        finally:
            os.close(pidfd)
        pytest.fail(f"dockerd did not start: {(folder / 'log').read_text()[-2000:]}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Signal it, and wait for its end; containers live on."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        process.wait(60)

    def docker(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run docker against it."""
        return subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *words],
            capture_output=True,
            text=True,
            timeout=_DOCKER_S,
            check=False,
            env={**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(self.folder)},
            **more,
        )

    def ok(self, *words: str, **more: Any) -> str:
        """Do so and return its output; it must succeed."""
        done = self.docker(*words, **more)
        log = (self.folder / "log").read_text()[-1500:]
        assert done.returncode == 0, f"docker {words}: {done.stderr}\n{log}"
        return done.stdout

    def close(self) -> None:
        """Remove all containers and end it."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            if names := self.docker("ps", "-aq").stdout.split():
                self.docker("rm", "-f", *names)
        self.stop()
        _unmount_below(self.folder)


def _unmount_below(folder: Path) -> None:
    """Unmount what dockerd leaves mounted in itself: its exec root's network namespaces."""
    found = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((one for one in found if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", place], check=False)


def _docker(kind: str, archive: Path) -> Iterator[Docker]:
    folder = SESSION.new_folder()
    with Daemon(kind, folder) as below:
        below.ok("image", "import", "--base-name", IMAGE.partition(":")[0], str(archive))
        below.ok("image", "export", str(folder / "docker.tar"), IMAGE)
        below.ok("image", "rm", "--sync", IMAGE)
        made = Docker(below)
        try:
            made.start()
            made.ok("load", "-i", str(folder / "docker.tar"))
            yield made
        finally:
            made.close()
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


@pytest.fixture(scope="module")
def ours(archive: Path) -> Iterator[Docker]:
    """dockerd on sampand."""
    require("dockerd", "docker")
    yield from _docker("sampand", archive)


@pytest.fixture(scope="module")
def theirs(archive: Path) -> Iterator[Docker]:
    """dockerd on Debian's containerd."""
    require("dockerd", "docker")
    yield from _docker("containerd", archive)


@contextlib.contextmanager
def container(docker: Docker, *words: str, flags: tuple[str, ...] = ()) -> Iterator[str]:
    """A detached container; gone afterwards."""
    name = unique_name("box")
    docker.ok(
        "run", "-d", "--name", name, *flags, *BOX, *(words or ("/bin/busybox", "sleep", "999"))
    )
    try:
        yield name
    finally:
        docker.ok("rm", "-f", name)


FLAGS: Final = {
    "output": ((), "busybox echo out; busybox echo err >&2; exit 3"),
    "user": (("-u", "5:6"), "busybox id"),
    "workdir": (("-w", "/bin"), "busybox pwd"),
    "env": (("-e", "A=b"), "busybox echo $A"),
    "read-only": (("--read-only",), "busybox touch /x"),
    "capabilities": (("--cap-drop", "ALL"), "busybox grep Cap /proc/self/status"),
    "memory": (("-m", "50m"), "busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "pids": (("--pids-limit", "33"), "busybox cat /sys/fs/cgroup/pids/pids.max"),
    "tmpfs": (("--tmpfs", "/t:size=1m"), "busybox grep ' /t ' /proc/mounts"),
    "ulimit": (("--ulimit", "nofile=99:99"), "busybox sh -c 'ulimit -n'"),
    "hostname": (("-h", "ahab"), "busybox hostname"),
    "sysctl": (("--sysctl", "kernel.msgmax=9000"), "busybox cat /proc/sys/kernel/msgmax"),
    "init": (("--pid", "host"), "busybox test -d /proc/1"),
    "mounts": ((), "busybox cut -d' ' -f2-3 /proc/mounts"),
    "seccomp": ((), "busybox grep Seccomp: /proc/self/status"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_run(ours: Docker, theirs: Docker, name: str) -> None:
    flags, script = FLAGS[name]
    said = []
    for docker in (ours, theirs):
        done = docker.docker("run", "--rm", *flags, *BOX, "/bin/busybox", "sh", "-c", script)
        masks = ((str(docker.below.folder), "FOLDER"),)
        said.append((done.returncode, masked(done.stdout, *masks), masked(done.stderr, *masks)))
    assert said[0] == said[1]


def test_run_of_what_is_not_there(ours: Docker, theirs: Docker) -> None:
    """docker tells 127 and 126 by the words of the runtime."""
    for argv, code in (("/no/such", 127), ("/etc", 126)):
        for docker in (ours, theirs):
            done = docker.docker("run", "--rm", *BOX, argv)
            assert done.returncode == code, (docker.below.kind, done.stderr)


def test_exec_logs_top_inspect_stats(ours: Docker, theirs: Docker) -> None:
    said = []
    for docker in (ours, theirs):
        script = "busybox echo one; busybox echo two >&2; busybox sleep 999"
        with container(docker, "/bin/busybox", "sh", "-c", script) as name:
            found: list[Any] = []
            done = docker.docker("exec", "-u", "7", "-w", "/bin", name, "/bin/busybox", "pwd")
            found.append((done.returncode, done.stdout))
            done = docker.docker("exec", name, "/bin/busybox", "sh", "-c", "exit 9")
            found.append(done.returncode)
            found.append(docker.docker("exec", name, "/no/such").returncode)
            done = docker.docker("logs", name)
            found.append((done.stdout, done.stderr))
            top = docker.ok("top", name, "-o", "pid,args").splitlines()[1:]
            found.append([line.split()[1:] for line in top])
            stats = docker.ok("stats", "--no-stream", "--format", "{{.PIDs}}", name)
            found.append(stats)
            state = json.loads(docker.ok("inspect", "-f", "{{json .State}}", name))
            assert state.pop("Pid") > 0
            found.append({key: one for key, one in state.items() if not key.endswith("edAt")})
            found.append(docker.ok("ps", "--format", "{{.Image}}|{{.State}}", "-f", f"name={name}"))
        said.append(found)
    assert said[0] == said[1]


def test_pause_stop_kill_restart_wait(ours: Docker, theirs: Docker) -> None:
    said = []
    for docker in (ours, theirs):
        with container(docker) as name:
            shown = ("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)
            found = [docker.ok(*shown)]
            for words in (
                ("pause",),
                ("unpause",),
                ("stop", "-t", "1"),
                ("start",),
                ("kill", "-s", "KILL"),
                ("start",),
                ("restart", "-t", "0"),
                ("update", "-m", "60m", "--memory-swap", "60m"),
            ):
                docker.ok(*words, name)
                found.append(" ".join(words))
                if words[0] == "kill":
                    docker.ok("wait", name)
                found.append(docker.ok(*shown))
        said.append(found)
    assert said[0] == said[1]


def test_restart_policy(ours: Docker, theirs: Docker) -> None:
    said = []
    for docker in (ours, theirs):
        flags = ("--restart", "on-failure:2")
        with container(docker, "/bin/busybox", "false", flags=flags) as name:
            code = docker.ok("wait", name)
            while docker.ok("inspect", "-f", "{{.State.Status}}", name) != "exited\n":
                code = docker.ok("wait", name)
            count = docker.ok("inspect", "-f", "{{.RestartCount}}", name)
        said.append((code, count))
    assert said[0] == said[1] == ("1\n", "2\n")


def test_events(ours: Docker, theirs: Docker) -> None:
    said = []
    for docker in (ours, theirs):
        since = docker.ok("system", "info", "-f", "{{.SystemTime}}").strip()
        with container(docker, "/bin/busybox", "true") as name:
            docker.ok("wait", name)
        until = docker.ok("system", "info", "-f", "{{.SystemTime}}").strip()
        lines = docker.ok(
            *("events", "--since", since, "--until", until, "-f", f"container={name}"),
            *("--format", "{{.Action}}"),
        ).splitlines()
        said.append([line for line in lines if line not in ("wait", "attach")])
    assert said[0] == said[1]
    assert said[0] == ["create", "start", "die", "destroy"]


def test_terminal_and_stdin(ours: Docker, theirs: Docker) -> None:
    said = []
    for docker in (ours, theirs):
        done = docker.docker(
            "run", "-i", "--rm", *BOX, "/bin/busybox", "wc", "-c", input="x" * 300_000
        )
        found = [done.returncode, done.stdout.strip()]
        line = f"docker -H unix://{docker.socket} run --rm -it {' '.join(BOX)} /bin/busybox tty"
        shown = subprocess.run(
            ["script", "-qec", line, "/dev/null"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said.append([*found, shown.returncode, masked(shown.stdout)])
    assert said[0] == said[1]


def test_build_with_its_own_builder(ours: Docker, short_path: Path) -> None:
    (short_path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nCOPY file /file\nENV A=b\n"
        'RUN ["/bin/busybox", "sh", "-c", "busybox echo built-$A > /made"]\n'
        'CMD ["/bin/busybox", "cat", "/made", "/file"]\n'
    )
    (short_path / "file").write_text("copied\n")
    name = "example.com/built:1"
    ours.ok("build", "--network", "none", "-t", name, str(short_path))
    assert ours.ok("run", "--rm", "--network", "none", name) == "built-b\ncopied\n"
    with container(ours) as box:
        ours.ok("exec", box, "/bin/busybox", "touch", "/new")
        ours.ok("commit", box, "example.com/committed:1")
        ours.ok("cp", f"{box}:/bin/busybox", str(short_path / "copied"))
    assert (short_path / "copied").stat().st_size > 100_000
    listed = ours.ok(
        *("run", "--rm", "--network", "none", "example.com/committed:1", "/bin/busybox"),
        "ls",
        "/new",
    )
    assert listed == "/new\n"


@pytest.fixture
def own(archive: Path) -> Iterator[Docker]:
    """A dockerd on a sampand that the test may kill."""
    require("dockerd", "docker")
    yield from _docker("sampand", archive)


def test_containers_live_while_dockerd_is_away(own: Docker) -> None:
    with container(own) as alive, container(own, "/bin/busybox", "sleep", "998") as dying:
        pid = int(own.ok("inspect", "-f", "{{.State.Pid}}", dying))
        own.stop(signal.SIGKILL)
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
        own.start()
        assert own.ok("exec", alive, "/bin/busybox", "echo", "still") == "still\n"
        shown = own.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", dying)
        assert shown == "exited 137\n"


def test_containers_live_while_we_are_away(own: Docker) -> None:
    """sampand is killed and started anew below a dockerd that has two containers."""
    with container(own) as alive, container(own, "/bin/busybox", "sleep", "997") as dying:
        own.below.stop(signal.SIGKILL)
        own.below.start()
        # dockerd waits longer and longer before it tries to connect again.
        for _ in range(60):
            done = own.docker("exec", alive, "/bin/busybox", "echo", "still")
            if done.returncode == 0:
                break
        assert done.stdout == "still\n"
        own.ok("kill", dying)
        assert own.ok("wait", dying) == "137\n"
