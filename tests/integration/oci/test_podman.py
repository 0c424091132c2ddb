"""The real podman runs our runtime: `podman --runtime sampan-oci`."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.testing import requires
from sampan.testing.runtimes import sampan_oci

pytestmark = [
    requires("root", "busybox", "podman", "conmon"),
    pytest.mark.skipif(len(sampan_oci()) != 1, reason="sampan-oci is not installed as a program"),
]

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""podman asks for more than a root without CAP_SYS_RESOURCE may give, on any runtime."""


class Podman:
    def __init__(self, folder: Path, rootfs: Path) -> None:
        self._rootfs = rootfs
        self._command = [
            "podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"),
            "--tmpdir", str(folder / "tmp"), "--runtime", sampan_oci()[0],
            "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--storage-driver", "vfs",
        ]  # fmt: skip

    def call(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done

    def run(self, *words: str, flags: tuple[str, ...] = (), check: bool = True) -> str:
        options = (*LIMITS, "--network", "none", *flags, "--rootfs", str(self._rootfs))
        return self.call("run", *options, *words, check=check).stdout


@pytest.fixture
def podman(short_path: Path, rootfs: Path) -> Iterator[Podman]:
    made = Podman(short_path, rootfs)
    yield made
    made.call("rm", "--all", "--force", "--time", "0", check=False)
    made.call("pod", "rm", "--all", "--force", "--time", "0", check=False)
    for path in (short_path / "root/vfs", short_path / "run"):
        shutil.rmtree(path, ignore_errors=True)


def test_run_exec_pause_stats_stop(podman: Podman) -> None:
    assert podman.run("echo", "hello", flags=("--rm",)) == "hello\n"
    podman.run("sh", "-c", "trap exit TERM; while :; do sleep 0.1; done", flags=("-d", "--name=c1"))
    assert podman.call("exec", "c1", "id", "-u").stdout == "0\n"
    assert podman.call("exec", "c1", "sh", "-c", "exit 7", check=False).returncode == 7
    podman.call("pause", "c1")
    assert state(podman) == "paused"
    podman.call("unpause", "c1")
    stats = json.loads(podman.call("stats", "--no-stream", "--format=json", "c1").stdout)
    assert int(stats[0]["pids"]) >= 1
    assert "sh" in podman.call("top", "c1").stdout
    podman.call("stop", "--time", "10", "c1")
    assert state(podman) == "exited"
    podman.call("start", "c1")
    assert state(podman) == "running"
    podman.call("rm", "--force", "--time", "0", "c1")


def state(podman: Podman) -> str:
    return podman.call("inspect", "--format", "{{.State.Status}}", "c1").stdout.strip()


def test_a_terminal_and_limits(podman: Podman) -> None:
    output = podman.run("sh", "-c", "tty; ulimit -n", flags=("--rm", "-t", "--memory=64m"))
    assert "/dev/pts/0" in output
    assert "1024" in output


def test_a_missing_program(podman: Podman) -> None:
    done = podman.call(
        "run", "--rm", *LIMITS, "--network", "none", "--rootfs", str(podman._rootfs), "nosuch",
        check=False,
    )  # fmt: skip
    assert done.returncode == 127
    assert "executable file" in done.stderr


def test_a_pod(podman: Podman) -> None:
    podman.call("pod", "create", "--infra=false", "--name", "pod1")
    podman.run("sleep", "100", flags=("-d", "--pod", "pod1", "--name", "c1"))
    podman.call("pod", "pause", "pod1")
    assert state(podman) == "paused"
    podman.call("pod", "unpause", "pod1")
    podman.call("pod", "rm", "--force", "--time", "0", "pod1")
    assert podman.call("ps", "-aq").stdout == ""
