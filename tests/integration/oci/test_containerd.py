"""The real containerd 1.6 and its runc shim run our runtime: `ctr run --runc-binary sampan-oci`."""

import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.testing import requires, unique_name
from sampan.testing.runtimes import sampan_oci

pytestmark = requires("root", "busybox", "containerd", "ctr", "containerd-shim-runc-v2")

CONFIG = """
version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{0}/sock"
"""


class Containerd:
    def __init__(self, folder: Path, rootfs: Path) -> None:
        self.folder = folder
        self.rootfs = rootfs
        (folder / "config.toml").write_text(CONFIG.format(folder))
        command = ["containerd", "-c", str(folder / "config.toml")]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: self.ctr("version", check=False).returncode == 0)

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["ctr", "--address", str(self.folder / "sock"), *arguments],
            capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, (done.stderr, (self.folder / "log").read_text())
        return done

    def run(self, name: str, *arguments: str, flags: tuple[str, ...] = ()) -> str:
        ours = ("--runc-binary", sampan_oci()[0], "--rootfs")
        return self.ctr("run", *ours, *flags, str(self.rootfs), name, *arguments).stdout

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def until(true: object) -> None:
    for _ in range(1000):
        if true():  # type: ignore[operator]
            return
        select.select([], [], [], 0.02)
    raise TimeoutError


@pytest.fixture
def containerd(short_path: Path, rootfs: Path) -> Iterator[Containerd]:
    made = Containerd(short_path, rootfs)
    yield made
    made.close()


@pytest.mark.skipif(len(sampan_oci()) != 1, reason="sampan-oci is not installed as a program")
def test_a_whole_life(containerd: Containerd) -> None:
    name = unique_name("ctr")
    assert containerd.run(name, "/bin/echo", "hello", flags=("--rm",)) == "hello\n"
    containerd.run(name, "/bin/sleep", "100", flags=("-d", "--memory-limit", str(64 << 20)))
    listed = containerd.ctr("tasks", "list").stdout
    assert "RUNNING" in listed
    done = containerd.ctr("tasks", "exec", "--exec-id", "e1", name, "/bin/id", "-u")
    assert done.stdout == "0\n"
    containerd.ctr("tasks", "pause", name)
    assert "PAUSED" in containerd.ctr("tasks", "list").stdout
    containerd.ctr("tasks", "resume", name)
    assert str(64 << 20) in containerd.ctr("tasks", "metrics", name).stdout
    containerd.ctr("tasks", "kill", "--signal", "SIGKILL", name)
    until(lambda: "STOPPED" in containerd.ctr("tasks", "list").stdout)
    containerd.ctr("tasks", "delete", name, check=False)
    containerd.ctr("containers", "delete", name)
    failed = containerd.ctr(
        "run", "--runc-binary", sampan_oci()[0], "--rm", "--rootfs", str(containerd.rootfs),
        name, "nosuchprogram", check=False,
    )  # fmt: skip
    assert failed.returncode != 0
    assert "executable file not found in $PATH" in failed.stderr
