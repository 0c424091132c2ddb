"""SIGKILL of the daemon, of its zygote and of a shim, each alone, at rest and at random moments.

What must hold after each: containers whose shim lives run on; the next daemon knows what ended
meanwhile, how and when; every name can be removed; nothing of it is left.
"""

from __future__ import annotations

import os
import random
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel

from sampan.api.containerd.services.tasks.v1 import tasks_grpc, tasks_pb2
from sampan.testing import requires, unique_name
from sampan.testing.inventory import Kind, Scope, descendants, take

pytestmark = requires("root", "busybox", "ctr")

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
ROUNDS = 200 if SOAK else 18
LONGEST_S = 600 if SOAK else 18
ORPHANS = ("sampan", "sleep", "sh", "true")
"""What shims and containers call themselves; the rest the test has started, and waits for."""
TRAP = "trap 'exit 7' TERM; touch /ready; while :; do sleep 1000 & wait; done"


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.fixture(autouse=True)
def init() -> Iterator[None]:
    """Reap orphans, as init does: we are the subreaper, and their pid namespaces wait for it."""
    end = threading.Event()

    def reap() -> None:
        while not end.wait(0.01):
            for task in os.listdir("/proc/self/task"):
                try:
                    children = Path(f"/proc/self/task/{task}/children").read_text().split()
                except OSError:
                    continue
                for child in map(int, children):
                    if comm(child).startswith(ORPHANS):
                        with suppress(ChildProcessError):
                            os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG)

    thread = threading.Thread(target=reap)
    thread.start()
    yield
    end.set()
    thread.join()


def run(daemon: Any, rootfs: Path, name: str, *args: str) -> Any:
    flags = ("--null-io", "--cgroup", f"/{name}", "--rootfs")
    return daemon.ctr("run", "-d", *flags, str(rootfs), name, *args)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process and wait for its end."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, number)
        assert select.select([pidfd], [], [], 20)[0], f"process {pid} does not end"
    finally:
        os.close(pidfd)


def zygote(daemon: Any) -> int:
    """Return its pid; 0 while there is none."""
    found = (pid for pid in descendants(daemon.pid) if comm(pid) == "sampan-zygote")
    return next(found, 0)


def shim(daemon: Any, name: str) -> int:
    """Return the pid of a task's shim; 0 before it has one."""
    file = daemon.folder / "state/io.containerd.runtime.v2.task/default" / name / "shim.pid"
    try:
        return int(file.read_text().split()[0])
    except (OSError, IndexError):
        return 0


def tasks(daemon: Any) -> dict[str, tuple[int, str]]:
    """Return pid and status by container, as ctr lists them."""
    rows = (line.split() for line in daemon.ok("task", "ls").splitlines()[1:])
    return {row[0]: (int(row[1]), row[2]) for row in rows}


def left_of(daemon: Any, name: str) -> list[str]:
    """Return what bears the name of a container that was removed."""
    scope = Scope(tag=name, own_mounts=False, kinds=frozenset({Kind.CGROUP, Kind.MOUNT}))
    found = [str(item) for item in take(scope).values()]
    return found + [str(path) for path in (daemon.folder / "state").rglob(f"*{name}*")]


@contextmanager
def shim_ends(daemon: Any, name: str) -> Iterator[None]:
    """Wait, after the block, for the end of a task's shim, which first sends its last events."""
    pidfd = -1
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid) if (pid := shim(daemon, name)) else -1
    yield
    if pidfd >= 0:
        try:
            assert select.select([pidfd], [], [], 20)[0], "its shim lives on"
        finally:
            os.close(pidfd)


def remove(daemon: Any, name: str) -> None:
    """Remove a container, in whatever state it is."""
    with shim_ends(daemon, name):
        _remove(daemon, name)


def _remove(daemon: Any, name: str) -> None:
    for words in (("task", "rm", "-f", name), ("container", "rm", name)):
        done = daemon.ctr(*words)
        assert done.returncode == 0 or "not found" in done.stderr or words[0] == "task", done.stderr
    assert name not in tasks(daemon)
    assert name not in daemon.ok("container", "ls", "-q").split()
    assert left_of(daemon, name) == [], daemon.log.read_text()[-3000:]


async def ended(daemon: Any, name: str) -> tuple[int, float]:
    """Return exit status and time of a task, by gRPC: ctr shows no times."""
    channel = Channel(path=str(daemon.address))
    try:
        stub = tasks_grpc.TasksStub(channel)
        headers = {"containerd-namespace": "default"}
        request = tasks_pb2.GetRequest(container_id=name)
        process = (await stub.Get(request, metadata=headers, timeout=20)).process
    finally:
        channel.close()
    at = process.exited_at
    return process.exit_status, at.seconds + at.nanos / 1e9


async def test_the_next_daemon_knows_how_and_when_it_ended(daemon: Any, rootfs: Path) -> None:
    name = unique_name("k")
    done = run(daemon, rootfs, name, "/bin/sh", "-c", TRAP)
    assert done.returncode == 0, done.stderr
    ready = rootfs / "ready"
    until = time.monotonic() + 20
    while not ready.exists():
        assert time.monotonic() < until
        select.select([], [], [], 0.002)
    pid = tasks(daemon)[name][0]
    daemon.stop(signal.SIGKILL)
    began = time.time()
    kill(pid, signal.SIGTERM)
    over = time.time()
    daemon.start()
    status, at = await ended(daemon, name)
    assert status == 7
    assert began - 0.01 <= at <= over + 1
    assert tasks(daemon)[name][1] == "STOPPED"
    with shim_ends(daemon, name):
        assert "exit code 7" in daemon.ctr("task", "rm", name).stderr
    remove(daemon, name)


def test_a_new_zygote_serves(daemon: Any, rootfs: Path) -> None:
    first, second = unique_name("k"), unique_name("k")
    assert run(daemon, rootfs, first, "/bin/sleep", "1000").returncode == 0
    kill(zygote(daemon))
    assert run(daemon, rootfs, second, "/bin/sleep", "1000").returncode == 0
    assert {status for _, status in tasks(daemon).values()} == {"RUNNING"}
    assert daemon.ctr("task", "exec", "--exec-id", "e", first, "/bin/true").returncode == 0
    for name in (first, second):
        remove(daemon, name)


async def test_a_dead_shims_task_ends(daemon: Any, rootfs: Path) -> None:
    """Its processes are killed by cgroup, those of another task are not."""
    name, other = unique_name("k"), unique_name("k")
    for each in (name, other):
        done = run(daemon, rootfs, each, "/bin/sh", "-c", "setsid sleep 1000 & exec sleep 1000")
        assert done.returncode == 0, done.stderr
    pidfd = os.pidfd_open(tasks(daemon)[name][0])
    kill(shim(daemon, name))
    try:
        assert select.select([pidfd], [], [], 20)[0], daemon.log.read_text()[-1500:]
    finally:
        os.close(pidfd)
    assert (await ended(daemon, name))[0] == 137
    assert tasks(daemon)[other][1] == "RUNNING"
    remove(daemon, name)
    remove(daemon, other)


def create(daemon: Any, rootfs: Path, name: str) -> None:
    run(daemon, rootfs, name, "/bin/sleep", "1000")


def execute(daemon: Any, rootfs: Path, name: str) -> None:
    daemon.ctr("task", "exec", "--detach", "--exec-id", "e", name, "/bin/true")


def delete(daemon: Any, rootfs: Path, name: str) -> None:
    daemon.ctr("task", "rm", "-f", name)


OPERATIONS = (create, execute, delete)
VICTIMS = ("daemon", "zygote", "shim")


@contextmanager
def death(daemon: Any, victim: str, name: str, delay_s: float) -> Iterator[None]:
    """Kill `victim` so long after the block began; a shim, if there is one by then."""

    def strike() -> None:
        if victim == "daemon":
            pid = int(daemon.pid)
        else:
            pid = zygote(daemon) if victim == "zygote" else shim(daemon, name)
        if pid:
            kill(pid)

    timer = threading.Timer(delay_s, strike)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_killed_at_random_moments(daemon: Any, rootfs: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    witness = unique_name("k")
    assert run(daemon, rootfs, witness, "/bin/sleep", "1000").returncode == 0
    before = tasks(daemon)[witness]
    until = time.monotonic() + LONGEST_S
    pairs = [(victim, operation) for victim in VICTIMS for operation in OPERATIONS]
    for number in range(ROUNDS):
        if time.monotonic() > until:
            break
        victim, operation = pairs[number % len(pairs)]
        name = unique_name("k")
        if operation is not create:
            create(daemon, rootfs, name)
        delay_s = chance.uniform(0.01, 0.12)
        with death(daemon, victim, name, delay_s):
            operation(daemon, rootfs, name)
        if victim == "daemon":
            daemon.stop(signal.SIGKILL)
            daemon.start()
        what = f"{victim} killed {delay_s:.3f} s into {operation.__name__}"
        assert tasks(daemon)[witness] == before, what
        remove(daemon, name)
    assert daemon.ctr("task", "exec", "--exec-id", "last", witness, "/bin/true").returncode == 0
    remove(daemon, witness)
