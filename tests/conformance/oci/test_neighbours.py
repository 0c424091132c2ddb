"""Noisy neighbours, judged by the kernel: what a limited one took, and what a victim still got.

No time decides here: bounds hold on however slow a machine. `bench/neighbours.py` measures losses.
"""

import os
import select
import time
from collections.abc import Callable

import pytest

from sampan.cgroups import Manager
from sampan.testing import Bundle, Runtime, requires

pytestmark = requires("root", "busybox", "cgroup:cpu", "cgroup:memory", "cgroup:pids")

BUSY = "for i in 1 2 3 4; do while :; do :; done & done; wait"
CACHE = "while :; do dd if=/dev/zero of=/big bs=1M count=150 2>/dev/null; cat /big >/dev/null; done"
ANONYMOUS = "dd if=/dev/zero of=/dev/null bs=200M count=100"
FORKS = "i=0; while [ $i -lt 15 ]; do sleep 100 & i=$((i+1)); done; wait"


@pytest.fixture
def runtime(make_runtime: Callable[[str], Runtime]) -> Runtime:
    return make_runtime("sampan-exec")


def start(runtime: Runtime, bundle: Bundle, script: str, **resources: object) -> Manager:
    bundle.linux["resources"].update(resources)
    name = runtime.create(bundle, "sh", "-c", script)
    runtime.start(name)
    return Manager(f"/{name}")


def until(true: Callable[[], bool]) -> None:
    """Wait for what must come to pass, at most 20 s."""
    for _ in range(400):
        if true():
            return
        select.select([], [], [], 0.05)
    raise AssertionError("it did not come to pass")


def test_cpu_stays_within_its_quota(runtime: Runtime, bundle: Bundle) -> None:
    """Four busy loops get no more than 20 ms of each 100 ms period, on however many CPUs."""
    manager = start(runtime, bundle, BUSY, cpu={"quota": 20_000, "period": 100_000})
    until(lambda: manager.stats()["cpu"]["throttled_periods"] >= 5)
    stats = manager.stats()["cpu"]
    # Each CPU may overrun by a slice of 5 ms before it hears that the quota is spent.
    most_ns = (stats["periods"] + 2) * (20_000_000 + 2 * 5_000_000)
    assert stats["usage_ns"] < most_ns


def test_the_page_cache_is_within_the_limit(
    runtime: Runtime, make_bundle: Callable[[], Bundle]
) -> None:
    """Files of three times its limit push out its own pages, and neither it nor the victim dies."""
    victim_bundle, noise = make_bundle(), make_bundle()
    victim = start(runtime, victim_bundle, "sleep 100", memory={"limit": 32 << 20})
    manager = start(runtime, noise, CACHE, memory={"limit": 48 << 20})
    until(lambda: manager.stats()["memory"]["failcnt"] > 100)
    assert manager.stats()["memory"]["max_usage"] <= 48 << 20
    assert manager.stats()["memory"]["oom_kill"] == 0
    work = "dd if=/dev/zero of=/dev/shm/x bs=1M count=16 2>/dev/null && echo fine"
    assert runtime.exec(victim_bundle.id, "sh", "-c", work).stdout == "fine\n"
    assert victim.stats()["memory"]["oom_kill"] == 0


def test_who_takes_too_much_memory_dies_alone(
    runtime: Runtime, make_bundle: Callable[[], Bundle]
) -> None:
    victim_bundle, noise = make_bundle(), make_bundle()
    victim = start(runtime, victim_bundle, "sleep 100", memory={"limit": 32 << 20})
    limit = {"limit": 48 << 20, "swap": 48 << 20}
    manager = start(runtime, noise, f"while :; do {ANONYMOUS}; done 2>/dev/null", memory=limit)
    until(lambda: manager.stats()["memory"]["oom_kill"] >= 2)
    assert manager.stats()["memory"]["max_usage"] <= 48 << 20
    assert victim.stats()["memory"]["oom_kill"] == 0
    assert runtime.state(victim_bundle.id)["status"] == "running"


def test_a_fork_bomb_stays_small(runtime: Runtime, make_bundle: Callable[[], Bundle]) -> None:
    victim_bundle, noise = make_bundle(), make_bundle()
    start(runtime, victim_bundle, "sleep 100", pids={"limit": 50})
    manager = start(runtime, noise, FORKS, pids={"limit": 16})
    until(lambda: manager.stats()["pids"]["current"] >= 16)
    more = runtime.exec(noise.id, "sh", "-c", "true & true &")
    assert "can't fork" in more.stderr
    work = "for i in 1 2 3 4 5 6 7 8; do true & done; wait; echo fine"
    assert runtime.exec(victim_bundle.id, "sh", "-c", work).stdout == "fine\n"


@requires("cgroup:blkio")
def test_writes_stay_below_their_rate(runtime: Runtime, bundle: Bundle) -> None:
    """Direct writes of one that may have 1 MiB a second; v1 sees no others."""

    device = os.stat(bundle.rootfs).st_dev
    if os.major(device) in (0, 7):
        pytest.skip("the rootfs is on no block device")
    throttle = [{"major": os.major(device), "minor": os.minor(device), "rate": 1 << 20}]
    script = "while :; do dd if=/dev/zero of=/io bs=256k count=4 oflag=direct 2>/dev/null; done"
    began = time.monotonic()
    manager = start(runtime, bundle, script, blockIO={"throttleWriteBpsDevice": throttle})

    def written() -> int:
        counted = manager.stats().get("io_bytes", {})
        return sum(value for key, value in counted.items() if key.endswith("Write"))

    until(lambda: written() >= 2 << 20)
    assert written() <= (time.monotonic() - began + 1) * (1 << 20) + (1 << 20)
