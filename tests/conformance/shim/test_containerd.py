"""The real containerd runs our shim: `ctr run --runtime io.containerd.sampan.v2` on 1.6."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampan
from sampan.distribution.from_host import Recipe, build_layout
from sampan.linux.process import pidfd_open, pidfd_wait
from sampan.testing import requires

pytestmark = requires("root", "busybox", "containerd", "ctr")

_RUNTIME = "io.containerd.sampan.v2"
_IMAGE = "example.test/busybox:latest"
_CONFIG = """
version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{0}/sock"
"""


class Containerd:
    """A private containerd whose PATH holds our shim."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder / "sock")
        (folder / "bin").mkdir()
        program = folder / "bin/containerd-shim-sampan-v2"
        source = Path(sampan.__file__).parent.parent
        program.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {str(source)!r})\n"
            "from sampan.shim.main import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        (folder / "config.toml").write_text(_CONFIG.format(folder))
        self.environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["containerd", "-c", str(folder / "config.toml")],
                env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.number = 0

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["ctr", "--address", self.address, *arguments],
            capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, (done.stderr, (self.folder / "log").read_text())
        return done

    def name(self) -> str:
        self.number += 1
        return f"sampan-ctr-{os.getpid()}-{self.number}"

    def run(self, *arguments: str, flags: tuple[str, ...] = ()) -> str:
        name = self.name()
        self.ctr("run", "--runtime", _RUNTIME, *flags, _IMAGE, name, *arguments)
        return name

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def _shims(folder: Path) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/cwd").startswith(str(folder)):
                    found.append(int(entry))
            except OSError:
                continue
    return found


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    folder = Path(tempfile.mkdtemp(prefix="sampan-ctrd-"))
    daemon = Containerd(folder)
    try:
        for _ in range(100):
            if daemon.ctr("version", check=False).returncode == 0:
                break
        recipe = Recipe(groups=(("busybox",),), cmd=("busybox", "sh"))
        build_layout(folder / "layout", recipe, name=_IMAGE)
        subprocess.run(
            ["tar", "-C", folder / "layout", "-cf", folder / "image.tar", "."], check=True
        )
        daemon.ctr("image", "import", str(folder / "image.tar"))
        yield daemon
    finally:
        daemon.close()
        left = _shims(folder)
        shutil.rmtree(folder)
        assert left == []


def test_run_and_its_output_and_status(containerd: Containerd) -> None:
    name = containerd.name()
    done = containerd.ctr(
        "run", "--rm", "--runtime", _RUNTIME, _IMAGE, name,
        "busybox", "sh", "-c", "echo out; echo err >&2; exit 5", check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("out\n", 5), done.stderr
    assert "err" in done.stderr


def test_a_detached_life(containerd: Containerd) -> None:
    name = containerd.run("busybox", "sleep", "1000", flags=("-d",))
    listed = containerd.ctr("task", "ls").stdout
    assert f"{name}" in listed
    assert "RUNNING" in listed
    pid = int(next(line for line in listed.splitlines() if name in line).split()[1])
    pidfd = pidfd_open(pid)
    done = containerd.ctr(
        "task", "exec", "--exec-id", "e", name, "busybox", "sh", "-c", "echo in; exit 3",
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("in\n", 3), done.stderr
    assert "pids.current" in containerd.ctr("task", "metrics", name).stdout
    assert str(pid) in containerd.ctr("task", "ps", name).stdout
    containerd.ctr("task", "pause", name)
    assert "PAUSED" in containerd.ctr("task", "ls").stdout
    containerd.ctr("task", "resume", name)
    assert containerd.ctr("task", "delete", name, check=False).returncode != 0
    containerd.ctr("task", "kill", "-s", "SIGKILL", name)
    assert pidfd_wait(pidfd, 10)
    os.close(pidfd)
    containerd.ctr("task", "delete", name, check=False)
    assert name not in containerd.ctr("task", "ls").stdout
    containerd.ctr("container", "delete", name)


def test_a_terminal(containerd: Containerd) -> None:
    name = containerd.name()
    ours, theirs = pty.openpty()
    arguments = ["run", "--rm", "-t", "--runtime", _RUNTIME, _IMAGE, name]
    with subprocess.Popen(
        ["ctr", "--address", containerd.address, *arguments, "busybox", "tty"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as client:  # fmt: skip
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 20)[0]:
            try:
                data = os.read(ours, 4096)
            except OSError:  # EIO: everybody has closed it
                break
            said += data
        assert client.wait(20) == 0, said
    os.close(ours)
    assert b"/dev/pts/0" in said


def test_a_program_that_is_not_there(containerd: Containerd) -> None:
    name = containerd.name()
    done = containerd.ctr(
        "run", "--rm", "--runtime", _RUNTIME, _IMAGE, name, "nosuchprogram", check=False
    )
    assert done.returncode != 0
    assert "executable file not found" in done.stderr
