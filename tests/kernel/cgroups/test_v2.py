"""The controllers of v2, one by one, where a host has them there, as in the virtual machine."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.cgroups import Manager
from sampan.errors import InvalidArgument
from sampan.linux import bpf
from sampan.model.runtime.resources import (
    CPU,
    BlockIO,
    DeviceRule,
    HugepageLimit,
    Memory,
    Pids,
    Resources,
)
from sampan.testing import requires

pytestmark = requires("root", "cgroup:v2")


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager(f"/sampan-test-{uuid.uuid4().hex}")
    made.create()
    yield made
    made.delete()


def text(manager: Manager, name: str) -> str:
    return Path(manager.paths["unified"], name).read_text().strip()


def test_cpu_and_cpuset(manager: Manager) -> None:
    wanted = CPU(shares=1024, quota=30_000, period=60_000, burst=10_000, cpus="0", mems="0")
    manager.apply(Resources(cpu=wanted))
    assert text(manager, "cpu.weight") == "39"
    assert text(manager, "cpu.max") == "30000 60000"
    assert text(manager, "cpu.max.burst") == "10000"
    assert text(manager, "cpuset.cpus") == "0"
    manager.apply(Resources(cpu=CPU(quota=-1)))
    assert text(manager, "cpu.max") == "max 60000"
    manager.apply(Resources(cpu=CPU(idle=1)))
    assert text(manager, "cpu.idle") == "1"


def test_memory_and_swap_apart(manager: Manager) -> None:
    manager.apply(Resources(memory=Memory(limit=64 << 20, swap=96 << 20, reservation=32 << 20)))
    assert text(manager, "memory.max") == str(64 << 20)
    assert text(manager, "memory.low") == str(32 << 20)
    swap = Path(manager.paths["unified"], "memory.swap.max")
    assert not swap.exists() or swap.read_text().strip() == str(32 << 20)
    with pytest.raises(InvalidArgument, match="below memory"):
        manager.apply(Resources(memory=Memory(limit=64 << 20, swap=32 << 20)))


def test_pids_and_unified(manager: Manager) -> None:
    manager.apply(Resources(pids=Pids(limit=7), unified={"memory.high": str(8 << 20)}))
    assert text(manager, "pids.max") == "7"
    assert text(manager, "memory.high") == str(8 << 20)
    with pytest.raises(InvalidArgument, match="no file name"):
        manager.apply(Resources(unified={"../cgroup.procs": "1"}))


def test_huge_pages(manager: Manager) -> None:
    if "hugetlb" not in text(manager, "cgroup.controllers"):
        pytest.skip("no hugetlb controller")
    manager.apply(Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 << 20),)))
    assert text(manager, "hugetlb.2MB.max") == str(4 << 20)
    assert manager.stats()["hugetlb.2MB"]["usage"] == 0


def test_io_weight(manager: Manager) -> None:
    manager.apply(Resources(block_io=BlockIO(weight=500)))
    for name in ("io.bfq.weight", "io.weight"):
        path = Path(manager.paths["unified"], name)
        if path.exists():
            assert path.read_text().split()[-1] in ("500", "4950")
            return
    pytest.skip("no io weights")


def test_one_device_program_at_a_time(manager: Manager) -> None:
    deny = DeviceRule(allow=False)
    null = DeviceRule(allow=True, type="c", major=1, minor=3, access="rw")
    for rules in ((deny,), (deny, null), (deny,)):
        manager.apply(Resources(devices=rules))
        folder = os.open(manager.paths["unified"], os.O_RDONLY)
        assert len(bpf.attached_ids(folder)) == 1
        os.close(folder)
