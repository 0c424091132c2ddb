"""sampand as a program: start, stop, death, and its tasks through all of it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import requires, unique_name

pytestmark = requires("root")


def run_sleeper(daemon: Any, rootfs: Path, id: str) -> None:
    daemon.ok(
        *("run", "-d", "--cgroup", f"/{unique_name('d')}", "--rootfs"),
        *(str(rootfs), id, "/bin/sleep", "1000"),
    )


def ended(pidfd: int) -> bool:
    try:
        return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)


def kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert ended(pidfd)


def tasks(daemon: Any) -> dict[str, str]:
    lines = daemon.ok("task", "ls").splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


def test_sockets_and_folders_are_private(daemon: Any) -> None:
    for path in (daemon.address, Path(f"{daemon.address}.ttrpc")):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert path.stat().st_mode & 0o007 == 0
    for name in ("root", "state"):
        assert (daemon.folder / name).stat().st_mode & 0o777 == 0o711


def test_sigterm_ends_it_cleanly(daemon: Any) -> None:
    assert daemon.stop(signal.SIGTERM) == 0
    assert not daemon.address.exists()
    daemon.start()


def test_a_second_one_on_the_same_socket_is_refused(daemon: Any) -> None:
    second = subprocess.run(
        [
            *(sys.executable, "-m", "sampan.daemon.main", "--address", str(daemon.address)),
            *("--root", str(daemon.folder / "root"), "--state", str(daemon.folder / "state")),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert str(daemon.address) in second.stderr
    assert "Traceback" not in second.stderr


def test_a_wrong_config_names_file_and_key(stopped: Any) -> None:
    config = stopped.folder / "c.toml"
    config.write_text("version = 1\nno_such_key = 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "sampan.daemon.main", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert str(config) in done.stderr
    assert "no_such_key" in done.stderr


def test_config_says_where_to_live(stopped: Any) -> None:
    config = stopped.folder / "c.toml"
    config.write_text('version = 1\nlog_level = "debug"\nsnapshotter = "native"\n')
    stopped.flags = ("--config", str(config))
    stopped.start()
    assert stopped.stop() == 0


def test_sigusr1_writes_stacks(daemon: Any) -> None:
    for _ in range(3):
        os.kill(daemon.pid, signal.SIGUSR1)
    assert daemon.stop() == 0
    said = daemon.log.read_text()
    assert "most recent call last" in said
    assert "thread MainThread" in said
    assert "Stack for <Task" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@requires("busybox", "ctr")
def test_containers_outlive_it(daemon: Any, rootfs: Path, number: int) -> None:
    run_sleeper(daemon, rootfs, "c1")
    run_sleeper(daemon, rootfs, "c2")
    before = daemon.shims()
    daemon.stop(number)
    state = json.loads((daemon.folder / "state/oci/default/c2/state.json").read_text())
    kill(state["pid"])
    shims = [os.pidfd_open(pid) for pid in before]
    daemon.start()
    assert daemon.shims() == before
    assert tasks(daemon) == {"c1": "RUNNING", "c2": "STOPPED"}
    daemon.ok("task", "rm", "-f", "c1")
    daemon.ctr("task", "rm", "c2")
    assert tasks(daemon) == {}
    assert daemon.shims() == []
    for pidfd in shims:
        # They stay until the daemon has taken what they had to tell.
        assert ended(pidfd)


@requires("busybox", "ctr")
def test_a_shim_killed_while_it_was_away_is_buried(daemon: Any, rootfs: Path) -> None:
    run_sleeper(daemon, rootfs, "c1")
    daemon.stop(signal.SIGKILL)
    kill(daemon.shims()[0])
    daemon.start()
    assert tasks(daemon) == {"c1": "STOPPED"}
    daemon.ctr("task", "rm", "c1")
    assert tasks(daemon) == {}
    assert os.listdir(daemon.folder / "state/oci/default") == []


@requires("busybox", "ctr", "containerd-shim-runc-v2", "runc")
def test_one_key_hands_a_name_to_the_foreign_binary(stopped: Any, rootfs: Path) -> None:
    config = stopped.folder / "c.toml"
    config.write_text('version = 1\nforeign_runtimes = ["io.containerd.runc.v2"]\n')
    stopped.flags = ("--config", str(config))
    stopped.start()
    bundle = stopped.folder / "state/io.containerd.runtime.v2.task/default"
    name = unique_name("f")
    run_sleeper(stopped, rootfs, name)
    shim = os.pidfd_open(stopped.shims()[0])
    assert (bundle / name / "shim-binary-path").read_text() == shutil.which(
        "containerd-shim-runc-v2"
    )
    stopped.ok("task", "exec", "--exec-id", "e", name, "/bin/true")
    stopped.stop(signal.SIGKILL)
    stopped.start()
    assert tasks(stopped) == {name: "RUNNING"}
    stopped.ctr("task", "rm", "-f", name)
    assert tasks(stopped) == {}
    assert ended(shim)


@requires("busybox")
def test_memory_when_idle(daemon: Any) -> None:
    """The bar is 50 MB for the daemon; its zygote is in the figures for a pod."""
    rollup = Path(f"/proc/{daemon.pid}/smaps_rollup").read_text()
    pss_kb = int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))
    assert pss_kb < 50_000
