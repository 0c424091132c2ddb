"""Other people's shims and runtimes below us: the same cases for ours, runc's and gVisor's."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sampan.testing import require, requires, unique_name
from sampan.testing.daemons import Daemon
from sampan.testing.session import SESSION

pytestmark = requires("root", "ctr", "busybox")

IMAGE: Final = "example.com/box:1"
RUNC: Final = "io.containerd.runc.v2"
KINDS: Final = {
    "ours": ("", ("--runtime", "io.containerd.sampan.v2"), ()),
    # The configuration leaves the name to the binary.
    "runc-shim": (RUNC, ("--runtime", RUNC), ("containerd-shim-runc-v2", "runc")),
    # Our shim execs what `BinaryName` says.
    "runc": ("", ("--runtime", RUNC, "--runc-binary", "runc"), ("runc",)),
    "runsc": ("", ("--runtime", RUNC, "--runc-binary", "{folder}/runsc-alone"), ("runsc",)),
    "runsc-shim": ("", ("--runtime", "io.containerd.runsc.v1"), ("containerd-shim-runsc-v1",)),
}
"""Name that is left to a foreign binary, flags of `ctr run`, needs."""


def prepared(folder: Path, left: str) -> Daemon:
    """Return a daemon below `folder` that is not yet started."""
    wrapper = folder / "runsc-alone"
    # gVisor's own network needs a network namespace with addresses in it.
    wrapper.write_text('#!/bin/sh\nexec runsc --network=none --ignore-cgroups "$@"\n')
    wrapper.chmod(0o755)
    config = folder / "c.toml"
    names = f'["{left}"]' if left else "[]"
    config.write_text(f"version = 1\nforeign_runtimes = {names}\n")
    return Daemon("sampand", folder, "--config", str(config))


class Below:
    """A daemon with an image, and how to run on one runtime."""

    def __init__(self, daemon: Daemon, flags: tuple[str, ...]) -> None:
        self.daemon = daemon
        self.flags = [flag.replace("{folder}", str(daemon.folder)) for flag in flags]

    def run(self, *words: str, flags: tuple[str, ...] = ()) -> Any:
        """Run a container to its end."""
        name = unique_name("x")
        more = (*self.flags, "--cgroup", f"/{name}", *flags)
        return self.daemon.ctr("run", "--rm", *more, IMAGE, name, *words)

    def sleeper(self) -> str:
        """Return the name of a container that sleeps."""
        name = unique_name("x")
        more = (*self.flags, "--cgroup", f"/{name}")
        self.daemon.ok("run", "-d", *more, IMAGE, name, "/bin/busybox", "sleep", "1000")
        return name


@pytest.fixture(scope="module", params=KINDS)
def below(request: pytest.FixtureRequest, archive: Path) -> Iterator[Below]:
    """A daemon for one kind of runtime."""
    left, flags, needs = KINDS[request.param]
    require(*needs)
    folder = SESSION.new_folder()
    with prepared(folder, left) as daemon:
        daemon.ok("image", "import", "--base-name", IMAGE.partition(":")[0], str(archive))
        yield Below(daemon, flags)
    shutil.rmtree(folder)


def test_output_and_code(below: Below) -> None:
    done = below.run("/bin/busybox", "sh", "-c", "busybox echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert below.daemon.ok("task", "ls").splitlines()[1:] == []


def test_environment_and_folder(below: Below) -> None:
    flags = ("--env", "A=b", "--cwd", "/etc")
    done = below.run("/bin/busybox", "sh", "-c", "busybox echo $A; busybox pwd", flags=flags)
    assert done.stdout.split() == ["b", "/etc"]


def test_exec_kill_and_delete(below: Below) -> None:
    daemon, name = below.daemon, below.sleeper()
    try:
        said = daemon.ok("task", "exec", "--exec-id", "e", name, "/bin/busybox", "echo", "in")
        assert said == "in\n"
        done = daemon.ctr("task", "exec", "--exec-id", "f", name, "/bin/busybox", "false")
        assert done.returncode == 1
        assert "RUNNING" in daemon.ok("task", "ls")
    finally:
        daemon.ctr("task", "rm", "-f", name)
        daemon.ok("container", "rm", name)
    assert daemon.ok("task", "ls").splitlines()[1:] == []


@pytest.mark.parametrize("kind", ["ours", "runc-shim", "runc"])
def test_what_is_not_there(kind: str, archive: Path, short_path: Path) -> None:
    """gVisor finds out when it starts, and cannot kill what was only created."""
    left, flags, needs = KINDS[kind]
    require(*needs)
    with prepared(short_path, left) as daemon:
        daemon.ok("image", "import", "--base-name", IMAGE.partition(":")[0], str(archive))
        assert Below(daemon, flags).run("/no/such/program").returncode != 0
        assert daemon.ok("task", "ls").splitlines()[1:] == []
        assert daemon.ok("container", "ls", "-q") == ""


@pytest.mark.parametrize("kind", KINDS)
def test_it_outlives_the_daemon(kind: str, archive: Path, short_path: Path) -> None:
    left, flags, needs = KINDS[kind]
    require(*needs)
    with prepared(short_path, left) as daemon:
        daemon.ok("image", "import", "--base-name", IMAGE.partition(":")[0], str(archive))
        name = Below(daemon, flags).sleeper()
        daemon.stop(signal.SIGKILL)
        daemon.start()
        said = daemon.ok("task", "exec", "--exec-id", "e", name, "/bin/busybox", "echo", "still")
        assert said == "still\n"
        daemon.ctr("task", "rm", "-f", name)
        daemon.ok("container", "rm", name)
        assert daemon.shims() == []
        assert os.listdir(short_path / "state/io.containerd.runtime.v2.task/default") == []
