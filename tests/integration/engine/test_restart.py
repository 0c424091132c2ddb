"""The restart monitor: labels say what shall run, and it does, through deaths of the daemon."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon.conftest import Daemon, stopped

from sampan.engine.restart import wants_start
from sampan.runtime import ProcessState, Status, Stdio
from sampan.testing import requires, unique_name

__all__ = ["stopped"]

RUN = "containerd.io/restart.status=running"
POLICY = "containerd.io/restart.policy="
COUNT = "containerd.io/restart.count"


def state(status: Status, code: int = 0) -> ProcessState:
    return ProcessState(id="c", exec_id="", pid=1, status=status, stdio=Stdio(), exit_status=code)


def labels(*pairs: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs)


@pytest.mark.parametrize(
    ("pairs", "current", "expected"),
    [
        ((RUN,), None, True),
        ((RUN,), state(Status.STOPPED), True),
        ((RUN,), state(Status.RUNNING), False),
        ((RUN,), state(Status.PAUSED), False),
        ((RUN,), state(Status.CREATED), False),
        ((), state(Status.STOPPED), False),
        ((RUN, f"{POLICY}no"), state(Status.STOPPED, 1), False),
        ((RUN, f"{POLICY}always"), state(Status.STOPPED), True),
        ((RUN, f"{POLICY}on-failure"), state(Status.STOPPED), False),
        ((RUN, f"{POLICY}on-failure"), state(Status.STOPPED, 1), True),
        ((RUN, f"{POLICY}on-failure:2", f"{COUNT}=1"), state(Status.STOPPED, 1), True),
        ((RUN, f"{POLICY}on-failure:2", f"{COUNT}=2"), state(Status.STOPPED, 1), False),
        ((RUN, f"{POLICY}unless-stopped"), state(Status.STOPPED), True),
        (
            (RUN, f"{POLICY}unless-stopped", "containerd.io/restart.explicitly-stopped=true"),
            None,
            False,
        ),
    ],
)
def test_policies(pairs: tuple[str, ...], current: ProcessState | None, expected: bool) -> None:
    assert wants_start(labels(*pairs), current) is expected


@pytest.fixture
def daemon(stopped: Daemon) -> Daemon:
    config = stopped.folder / "config.toml"
    config.write_text(
        '[plugins."io.containerd.monitor.container.v1.restart"]\ninterval = "300ms"\n'
    )
    stopped.flags += ("--config", str(config))
    stopped.start()
    return stopped


def tasks(daemon: Daemon) -> dict[str, tuple[int, str]]:
    rows = (line.split() for line in daemon.ok("task", "ls").splitlines()[1:])
    return {row[0]: (int(row[1]), row[2]) for row in rows}


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end
        select.select([], [], [], 0.02)
    return found


def kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(pidfd)


def running(daemon: Daemon, name: str, other_than: int) -> int:
    pid, status = tasks(daemon).get(name, (0, ""))
    return pid if status == "RUNNING" and pid not in (0, other_than) else 0


@requires("root", "busybox", "ctr")
def test_what_shall_run_runs(daemon: Daemon, rootfs: Path) -> None:
    name = unique_name("r")
    flags = ("--cgroup", f"/{name}", "--null-io", "--rootfs", str(rootfs))
    uri = f"containerd.io/restart.loguri=file://{daemon.folder}/out"
    said = ("/bin/sh", "-c", "echo once more; exec sleep 1000")
    daemon.ok("run", "-d", "--label", RUN, "--label", uri, *flags, name, *said)
    first = tasks(daemon)[name][0]
    kill(first)
    second = until(lambda: running(daemon, name, first))
    assert (daemon.folder / "out").read_text() == "once more\n"
    assert f'"{COUNT}": "1"' in daemon.ok("container", "info", name)
    # Who dies while there is no daemon is started by the next one.
    daemon.stop(signal.SIGKILL)
    kill(second)
    daemon.start()
    third = until(lambda: running(daemon, name, second))
    daemon.ok("container", "label", name, "containerd.io/restart.status=stopped")
    until(lambda: tasks(daemon)[name][1] == "STOPPED")
    assert third
    daemon.ok("task", "rm", "-f", name) if name in tasks(daemon) else None
    daemon.ok("container", "rm", name)


@requires("root", "busybox", "ctr")
def test_failures_are_counted(daemon: Daemon, rootfs: Path) -> None:
    name = unique_name("r")
    flags = ("--cgroup", f"/{name}", "--null-io", "--rootfs", str(rootfs))
    policy = ("--label", RUN, "--label", f"{POLICY}on-failure:2")
    daemon.ok("run", "-d", *policy, *flags, name, "/bin/false")
    until(lambda: f'"{COUNT}": "2"' in daemon.ok("container", "info", name))
    until(lambda: tasks(daemon).get(name, (0, ""))[1] == "STOPPED")
    done = daemon.ctr("task", "rm", name)
    assert "exit code 1" in done.stderr
    daemon.ok("container", "rm", name)
