"""SIGKILL of the zygote and of a shim while containers run: who lives on, who ends, what is left.

Each test ends with the inventory of `no_leaks`, which finds cgroups, mounts, namespaces, processes.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.errors import NotFound, Unavailable
from sampan.rpc.messages.types import Status
from sampan.testing import Bundle, requires
from sampan.testing.inventory import Kind, Scope, take
from sampan.testing.shims import PRELOAD, Shim, Shims
from sampan.zygote import Zygote

pytestmark = requires("root", "busybox")

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
ROUNDS = 200 if SOAK else 12


@pytest.fixture
def shims(short_path: Path) -> Iterator[Shims]:
    with Shims("fork", short_path) as made:
        yield made


def zygote_of(shims: Shims) -> Zygote:
    assert shims.zygote is not None
    return shims.zygote


def clean_up(shims: Shims, shim: Shim, bundle: Bundle) -> None:
    """Do what the daemon does behind a shim that died: a worker of the zygote buries the rest.

    We are the subreaper, so the orphans come to us, as to init: while an exec'd process is not
    reaped, its pid namespace cannot end.
    """
    assert shim.ended()
    zygote = zygote_of(shims)
    values = {"id": bundle.id, "namespace": shim.oci_root.name, "bundle": str(bundle.path)}
    values["oci_root"] = str(shim.oci_root.parent)
    payload = json.dumps({**values, "shim_pid": shim.pid}).encode()
    with zygote.fork("sampan.shim.cleanup:worker", payload) as worker:
        while not select.select([worker.pidfd], [], [], 0.005)[0]:
            reap_orphans(zygote.pid)
        assert worker.wait(0) == 0
    Path(shim.path).unlink(missing_ok=True)


def reap_orphans(spared: int) -> None:
    for task in os.listdir("/proc/self/task"):
        for child in Path(f"/proc/self/task/{task}/children").read_text().split():
            if int(child) != spared:
                os.waitid(os.P_PID, int(child), os.WEXITED | os.WNOHANG)


def left_of(bundle: Bundle) -> list[str]:
    """Return the cgroups that bear the container's name."""
    scope = Scope(tag=bundle.id, own_mounts=False, kinds=frozenset({Kind.CGROUP, Kind.MOUNT}))
    return [str(item) for item in take(scope).values()]


def test_shims_survive_the_zygote_and_a_new_one_serves(
    shims: Shims, make_bundle: Callable[[], Bundle]
) -> None:
    zygote = zygote_of(shims)
    first, second = make_bundle(), make_bundle()
    old = shims.start(first)
    old.launch(first, "sleep", "1000")
    signal.pidfd_send_signal(zygote.pidfd, signal.SIGKILL)
    assert select.select([zygote.pidfd], [], [], 10)[0]
    assert not zygote.alive()
    with pytest.raises(Unavailable):
        zygote.fork("sampan.shim.serve:worker")
    assert old.run(first.id, "echo", "alive") == (0, "alive\n")
    zygote.restart()
    new = shims.start(second)
    new.launch(second, "sleep", "1000")
    assert (old.status(first.id), new.status(second.id)) == (Status.RUNNING, Status.RUNNING)
    for shim, bundle in ((old, first), (new, second)):
        shim.kill(bundle.id)
        assert shim.wait(bundle.id).exit_status == 137
        shim.delete(bundle.id)
        assert left_of(bundle) == []


def test_the_containers_of_a_dead_shim_are_killed_by_cgroup(shims: Shims, bundle: Bundle) -> None:
    """With a process that has left init's session, and one that was started by exec."""
    shim = shims.start(bundle)
    pid = shim.launch(bundle, "sh", "-c", "setsid sleep 1000 & exec sleep 1000")
    shim.begin(bundle.id, "sleep", "1000")
    inside = Path(f"/sys/fs/cgroup/pids/{bundle.id}/cgroup.procs")
    if inside.exists():
        assert str(pid) in inside.read_text().split()
    signal.pidfd_send_signal(shim.pidfd, signal.SIGKILL)
    clean_up(shims, shim, bundle)
    assert left_of(bundle) == []
    assert not Path(f"/proc/{pid}/root/bin").exists()
    assert list(shim.oci_root.iterdir()) == []


OPERATIONS: dict[str, Callable[[Shim, Bundle], object]] = {
    "create": lambda shim, bundle: shim.create(bundle, "sleep", "1000"),
    "start": lambda shim, bundle: shim.start(bundle.id),
    "exec": lambda shim, bundle: shim.run(bundle.id, "true"),
    "kill": lambda shim, bundle: shim.kill(bundle.id),
    "delete": lambda shim, bundle: (shim.wait(bundle.id), shim.delete(bundle.id)),
}


def test_a_shim_killed_at_random_moments(shims: Shims, make_bundle: Callable[[], Bundle]) -> None:
    """In the middle of each operation in turn; whatever stage it reached, nothing is left."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    names = list(OPERATIONS)
    for number in range(ROUNDS):
        fatal = names[number % len(names)]
        bundle = make_bundle()
        shim = shims.start(bundle)
        delay_s = chance.uniform(0, 0.03)
        for name, operation in OPERATIONS.items():
            if name != fatal:
                operation(shim, bundle)
                continue
            killer = threading.Timer(
                delay_s, signal.pidfd_send_signal, (shim.pidfd, signal.SIGKILL)
            )
            killer.start()
            try:
                operation(shim, bundle)
            except (Unavailable, NotFound, FileNotFoundError):
                pass  # it came too early; or too late, and what follows found nobody
            finally:
                killer.join()
            break
        clean_up(shims, shim, bundle)
        assert left_of(bundle) == [], f"round {number}: killed {delay_s:.4f} s into {fatal}"
        assert list(shim.oci_root.glob("*")) == []


def test_a_zygote_killed_at_random_moments(
    short_path: Path, make_bundle: Callable[[], Bundle]
) -> None:
    """In the middle of a fork: the caller gets the worker or Unavailable, and the next serves."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    bundle = make_bundle()
    with Zygote.start(PRELOAD) as zygote, Shims("fork", short_path, zygote) as shims:
        shim = shims.start(bundle)
        shim.launch(bundle, "sleep", "1000")
        for _ in range(ROUNDS // 3):
            killer = threading.Timer(
                chance.uniform(0, 0.004), signal.pidfd_send_signal, (zygote.pidfd, signal.SIGKILL)
            )
            killer.start()
            try:
                while True:
                    zygote.fork("sampan.shim.cleanup:worker", b"{").close()
            except Unavailable:
                killer.join()
            zygote.restart()
            assert zygote.alive()
        assert shim.run(bundle.id, "echo", "still") == (0, "still\n")
