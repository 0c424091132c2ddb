"""The controllers of v1, one by one: what is written is what the kernel then has; and folders."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.cgroups import Manager, alike, controllers, folders
from sampan.cgroups.files import Cgroup, parse_flat, parse_number, translate
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from sampan.errors import Unimplemented as Missing
from sampan.model.runtime.resources import (
    CPU,
    BlockIO,
    HugepageLimit,
    Memory,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
)
from sampan.testing import requires

pytestmark = requires("root", "cgroup:v1")


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager(f"/sampan-test-{uuid.uuid4().hex}")
    made.create()
    yield made
    made.delete()


def text(manager: Manager, controller: str, name: str) -> str:
    return Path(manager.paths[controller], name).read_text().strip()


@requires("cgroup:cpu", "cgroup:cpuset")
def test_cpu_and_cpuset(manager: Manager) -> None:
    manager.apply(Resources(cpu=CPU(shares=512, quota=30_000, period=60_000, cpus="0", mems="0")))
    assert text(manager, "cpu", "cpu.shares") == "512"
    assert text(manager, "cpu", "cpu.cfs_quota_us") == "30000"
    assert text(manager, "cpu", "cpu.cfs_period_us") == "60000"
    assert text(manager, "cpuset", "cpuset.cpus") == "0"
    with pytest.raises(InvalidArgument, match=r"cpuset\.cpus"):
        manager.apply(Resources(cpu=CPU(cpus="999")))


@requires("cgroup:memory")
def test_memory(manager: Manager) -> None:
    manager.apply(Resources(memory=Memory(limit=64 << 20, swap=96 << 20, reservation=32 << 20)))
    assert text(manager, "memory", "memory.limit_in_bytes") == str(64 << 20)
    assert text(manager, "memory", "memory.soft_limit_in_bytes") == str(32 << 20)
    manager.apply(Resources(memory=Memory(limit=16 << 20, swap=16 << 20)))
    manager.apply(Resources(memory=Memory(limit=256 << 20, swap=512 << 20)))
    assert text(manager, "memory", "memory.limit_in_bytes") == str(256 << 20)


@requires("cgroup:pids")
def test_pids(manager: Manager) -> None:
    for limit, written in ((7, "7"), (0, "1"), (-1, "max")):
        manager.apply(Resources(pids=Pids(limit=limit)))
        assert text(manager, "pids", "pids.max") == written
    assert manager.stats()["pids"]["current"] == 0


@requires("cgroup:blkio")
def test_blkio(manager: Manager) -> None:
    line = Path("/proc/partitions").read_text().split("\n")[2].split()
    device = ThrottleDevice(major=int(line[0]), minor=int(line[1]), rate=1 << 20)
    manager.apply(Resources(block_io=BlockIO(throttle_write_bps_device=(device,))))
    name = "blkio.throttle.write_bps_device"
    assert text(manager, "blkio", name) == f"{line[0]}:{line[1]} {1 << 20}"
    wrong = ThrottleDevice(major=4000, minor=1, rate=1)
    with pytest.raises((InvalidArgument, Missing, NotFound), match="4000:1"):
        manager.apply(Resources(block_io=BlockIO(throttle_read_bps_device=(wrong,))))


def test_controllers_that_are_not_here(manager: Manager) -> None:
    wanted = {
        "hugetlb": Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=0),)),
        "rdma": Resources(rdma={"mlx5_0": Rdma(hca_handles=1)}),
    }
    for name, resources in wanted.items():
        if name not in manager.paths:
            with pytest.raises(Missing, match=name):
                manager.apply(resources)


def test_all_have_the_three_names() -> None:
    controllers.load_all()
    for version, table in (("v1", controllers.V1), ("v2", controllers.V2)):
        for name in table:
            module = controllers.load(version, name)
            assert name == module.CONTROLLER
            assert callable(module.apply)
            assert callable(module.stats)


def test_folders_are_walked_and_removed(manager: Manager) -> None:
    top = Path(manager.paths["pids"])
    (top / "a/b").mkdir(parents=True)
    (top / "c").mkdir()
    walked = list(folders.walk(str(top)))
    assert walked[0] == str(top)
    assert set(walked) == {str(top), *(str(top / n) for n in ("a", "a/b", "c"))}
    assert folders.remove(str(top / "a"))
    assert folders.remove(str(top / "a")), "gone already is fine"
    made: list[str] = []
    assert folders.make(str(top / "d/e"), made)
    assert made == [str(top / "d"), str(top / "d/e")]
    assert not folders.make(str(top / "d"), [])


def test_errors_say_what_was_tried(manager: Manager) -> None:
    cgroup = Cgroup(manager.paths["pids"])
    with pytest.raises(InvalidArgument, match=r"write '-5' to .*pids\.max"):
        cgroup.write("pids.max", -5)
    with pytest.raises(Missing, match=r"not\.there"):
        cgroup.read("not.there")
    assert cgroup.optional("not.there") is None
    gone = Cgroup(manager.paths["pids"] + "/gone")
    with pytest.raises(NotFound):
        gone.read("pids.max")
    assert isinstance(translate(PermissionError(13, "x"), "write"), PermissionDenied)
    assert isinstance(translate(OSError(16, "x"), "write"), FailedPrecondition)


def test_numbers() -> None:
    assert parse_number("max") == parse_number(str(1 << 63)) == (1 << 63) - 1
    assert parse_flat("a 1\nb c 2\n") == {"a": 1, "b c": 2}
    assert alike.no_stats(Cgroup("/")) == {}
