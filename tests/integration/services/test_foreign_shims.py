"""Other people's shims below us: the same cases for ours, Debian's runc.v2 and gVisor's."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import require, requires, unique_name
from sampan.testing.daemons import Daemon
from sampan.testing.session import SESSION

pytestmark = requires("root", "ctr", "busybox")

IMAGE = "example.com/box:1"
RUNTIMES = {
    "ours": ("io.containerd.sampan.v2", ()),
    "runc": ("io.containerd.runc.v2", ("containerd-shim-runc-v2", "runc")),
    "runsc": ("io.containerd.runsc.v1", ("containerd-shim-runsc-v1", "runsc")),
}


@pytest.fixture(scope="module")
def daemon(archive: Path) -> Iterator[Daemon]:
    """A daemon that leaves runc.v2 to the binary of that name."""
    folder = SESSION.new_folder()
    config = folder / "c.toml"
    config.write_text('version = 1\nforeign_runtimes = ["io.containerd.runc.v2"]\n')
    with Daemon("sampand", folder, "--config", str(config)) as made:
        made.ok("image", "import", "--base-name", IMAGE.partition(":")[0], str(archive))
        yield made
    shutil.rmtree(folder)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    name, needs = RUNTIMES[request.param]
    require(*needs)
    return name


def run(daemon: Any, runtime: str, *words: str, flags: tuple[str, ...] = ()) -> Any:
    name = unique_name("x")
    return daemon.ctr(
        *("run", "--rm", "--runtime", runtime, "--cgroup", f"/{name}", *flags, IMAGE, name, *words)
    )


def test_output_and_code(daemon: Any, runtime: str) -> None:
    done = run(daemon, runtime, "/bin/busybox", "sh", "-c", "busybox echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert daemon.ok("task", "ls").splitlines()[1:] == []


def test_environment_and_folder(daemon: Any, runtime: str) -> None:
    flags = ("--env", "A=b", "--cwd", "/etc")
    script = "busybox echo $A; busybox pwd"
    done = run(daemon, runtime, "/bin/busybox", "sh", "-c", script, flags=flags)
    assert done.stdout.split() == ["b", "/etc"]


def test_what_is_not_there(daemon: Any, runtime: str) -> None:
    done = run(daemon, runtime, "/no/such/program")
    assert done.returncode != 0
    assert daemon.ok("task", "ls").splitlines()[1:] == []
    assert daemon.ok("container", "ls", "-q") == ""


def test_exec_kill_and_delete(daemon: Any, runtime: str) -> None:
    name = unique_name("x")
    daemon.ok(
        *("run", "-d", "--runtime", runtime, "--cgroup", f"/{name}"),
        *(IMAGE, name, "/bin/busybox", "sleep", "1000"),
    )
    try:
        said = daemon.ok("task", "exec", "--exec-id", "e", name, "/bin/busybox", "echo", "in")
        assert said == "in\n"
        done = daemon.ctr("task", "exec", "--exec-id", "f", name, "/bin/busybox", "false")
        assert done.returncode == 1
        assert (
            name in daemon.ok("task", "ps", name) or daemon.ok("task", "ps", name).count("\n") > 1
        )
        assert "RUNNING" in daemon.ok("task", "ls")
    finally:
        daemon.ctr("task", "rm", "-f", name)
        daemon.ok("container", "rm", name)
    assert daemon.ok("task", "ls").splitlines()[1:] == []


def test_it_outlives_the_daemon(archive: Path, runtime: str, short_path: Path) -> None:
    config = short_path / "c.toml"
    config.write_text('version = 1\nforeign_runtimes = ["io.containerd.runc.v2"]\n')
    name = unique_name("x")
    with Daemon("sampand", short_path, "--config", str(config)) as daemon:
        daemon.ok("image", "import", "--base-name", IMAGE.partition(":")[0], str(archive))
        daemon.ok(
            *("run", "-d", "--runtime", runtime, "--cgroup", f"/{name}"),
            *(IMAGE, name, "/bin/busybox", "sleep", "1000"),
        )
        daemon.stop(signal.SIGKILL)
        daemon.start()
        said = daemon.ok("task", "exec", "--exec-id", "e", name, "/bin/busybox", "echo", "still")
        assert said == "still\n"
        daemon.ctr("task", "rm", "-f", name)
        daemon.ok("container", "rm", name)
        assert daemon.shims() == []
        assert os.listdir(short_path / "state/io.containerd.runtime.v2.task/default") == []
