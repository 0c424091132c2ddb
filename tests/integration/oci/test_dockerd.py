"""The real dockerd runs our runtime: `--add-runtime sampan=sampan-oci`, its default here."""

import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from sampan.testing import requires
from sampan.testing.runtimes import sampan_oci

pytestmark = [
    requires("root", "busybox", "dockerd", "docker"),
    pytest.mark.skipif(len(sampan_oci()) != 1, reason="sampan-oci is not installed as a program"),
]

QUIET = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
         "--ip-masq=false", "--storage-driver=vfs", "--exec-opt=native.cgroupdriver=cgroupfs",
         "--default-runtime=sampan")  # fmt: skip


class Docker:
    def __init__(self, folder: Path, rootfs: Path) -> None:
        self._folder = folder
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        command = ["dockerd", *(f"--{flag}={folder / name}" for flag, name in places.items())]
        command += [f"--host=unix://{folder}/s", f"--add-runtime=sampan={sampan_oci()[0]}", *QUIET]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(1000):
            if self.call("version", check=False).returncode == 0:
                break
            select.select([], [], [], 0.03)
        with subprocess.Popen(["tar", "-C", str(rootfs), "-c", "."], stdout=subprocess.PIPE) as tar:
            self.call("import", "-", "busybox", stdin=tar.stdout)

    def call(
        self, *arguments: str, check: bool = True, stdin: IO[bytes] | int | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", "--host", f"unix://{self._folder}/s", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
        )
        log = (self._folder / "log").read_text()[-2000:]
        assert not check or done.returncode == 0, (done.stderr, log)
        return done

    def close(self) -> None:
        self.call("rm", "--force", "c1", check=False)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture
def docker(short_path: Path, rootfs: Path) -> Iterator[Docker]:
    made = Docker(short_path, rootfs)
    yield made
    made.close()


def test_a_whole_life(docker: Docker) -> None:
    none = ("--network", "none")
    assert docker.call("run", "--rm", *none, "busybox", "echo", "hello").stdout == "hello\n"
    docker.call("run", "-d", "--name", "c1", *none, "busybox", "sleep", "100")
    assert docker.call("exec", "c1", "id", "-u").stdout == "0\n"
    assert docker.call("inspect", "-f", "{{.HostConfig.Runtime}}", "c1").stdout == "sampan\n"
    docker.call("pause", "c1")
    assert docker.call("inspect", "-f", "{{.State.Status}}", "c1").stdout == "paused\n"
    docker.call("unpause", "c1")
    docker.call("update", "--memory", "64m", "--memory-swap", "64m", "c1")
    shown = docker.call("stats", "--no-stream", "--format", "{{.MemUsage}}", "c1").stdout
    assert "64MiB" in shown
    assert "sleep 100" in docker.call("top", "c1").stdout
    docker.call("stop", "--time", "0", "c1")
    docker.call("rm", "c1")
    assert "/dev/pts/0" in docker.call("run", "--rm", "-t", *none, "busybox", "tty").stdout
    missing = docker.call("run", "--rm", *none, "busybox", "nosuchprogram", check=False)
    assert missing.returncode == 127
    assert "executable file not found in $PATH" in missing.stderr
