"""Cgroups, judged by what the kernel then does to processes."""

import contextlib
import errno
import os
import select
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest

from sampan.cgroups import Manager
from sampan.errors import FailedPrecondition, InvalidArgument, Unimplemented
from sampan.linux import process
from sampan.model.runtime.resources import CPU, DeviceRule, Memory, Pids, Resources
from sampan.testing import requires

pytestmark = requires("root")
DENY = DeviceRule(allow=False, access="rwm")


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager(f"/sampan-test-{uuid.uuid4().hex}/c")
    made.create()
    yield made
    if made.exists():
        made.kill_all()
        made.delete()
    Manager(os.path.dirname(made.path)).delete()


def inside(manager: Manager, work: Callable[[], int | None]) -> tuple[int, int]:
    """Start a process in the cgroup that does `work` once it is there; return pid and pidfd."""
    read_end, write_end = os.pipe()
    cgroup = manager.clone_fd()
    pid, pidfd = process.clone3(cgroup_fd=cgroup)
    if pid == 0:
        status = 99
        try:
            os.read(read_end, 1)
            status = work() or 0
        finally:
            os._exit(status)
    manager.add(pid, skip_unified=cgroup is not None)
    os.write(write_end, b"x")
    for fd in (read_end, write_end, cgroup):
        if fd is not None:
            os.close(fd)
    return pid, pidfd


def status_of(pidfd: int) -> int:
    assert process.pidfd_wait(pidfd, 20)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert ended is not None
    return ended.si_status


@requires("cgroup:pids")
def test_fork_past_the_limit_fails(manager: Manager) -> None:
    manager.apply(Resources(pids=Pids(limit=1)))

    def fork_once() -> int:
        try:
            pid, _ = process.clone3()
        except BlockingIOError as error:
            return 11 if error.errno == errno.EAGAIN else 12
        if pid == 0:
            os._exit(0)
        return 0

    assert status_of(inside(manager, fork_once)[1]) == 11
    manager.apply(Resources(pids=Pids(limit=-1)))
    assert status_of(inside(manager, fork_once)[1]) == 0


@requires("cgroup:memory")
def test_too_much_memory_is_killed_and_heard_of(manager: Manager) -> None:
    manager.apply(Resources(memory=Memory(limit=32 << 20)))

    def eat() -> None:
        _ = bytearray(os.urandom(1)) * (256 << 20)

    with manager.oom_watch() as watch:
        assert status_of(inside(manager, eat)[1]) == signal.SIGKILL
        poll = select.poll()
        poll.register(watch.fd, select.POLLIN)
        assert poll.poll(5000)
        assert watch.read() == 1
        assert watch.read() == 0
    assert manager.stats()["memory"]["oom_kill"] == 1


@requires("cgroup:memory")
def test_memory_limits_move_both_ways(manager: Manager) -> None:
    for limit in (64 << 20, 256 << 20, 32 << 20):
        manager.apply(Resources(memory=Memory(limit=limit)))
        assert manager.stats()["memory"]["limit"] == limit
    if "memory" in manager.paths:  # v2 has no swappiness of a cgroup
        with pytest.raises(InvalidArgument, match="swappiness 101"):
            manager.apply(Resources(memory=Memory(swappiness=101)))


@requires("cgroup:devices")
def test_only_allowed_devices_open_and_updates_leave_no_gap(manager: Manager) -> None:
    null = DeviceRule(allow=True, type="c", major=1, minor=3, access="rw")
    zero = DeviceRule(allow=True, type="c", major=1, minor=5, access="r")
    manager.apply(Resources(devices=(DENY, null)))

    def opens(path: str, flags: int) -> bool:
        def attempt() -> int:
            try:
                os.open(path, flags)
            except PermissionError:
                return 13
            return 0

        return status_of(inside(manager, attempt)[1]) == 0

    assert opens("/dev/null", os.O_RDWR)
    assert not opens("/dev/zero", os.O_RDONLY)
    stop_read, stop_write = os.pipe()

    def keep_opening() -> int:
        poll = select.poll()
        poll.register(stop_read, select.POLLIN)
        while not poll.poll(0):
            try:
                os.close(os.open("/dev/null", os.O_RDWR))
            except PermissionError:
                return 13
        return 0

    _, busy = inside(manager, keep_opening)
    for _ in range(100):
        manager.apply(Resources(devices=(DENY, null, zero)))
        manager.apply(Resources(devices=(DENY, zero, null)))
    os.write(stop_write, b"x")
    assert status_of(busy) == 0
    os.close(stop_read)
    os.close(stop_write)
    assert opens("/dev/zero", os.O_RDONLY)
    assert not opens("/dev/zero", os.O_WRONLY)


@requires("cgroup:cpu")
def test_quota_and_period_under_a_limited_parent(manager: Manager) -> None:
    manager.apply(Resources(cpu=CPU(quota=50000, period=100000)))
    child = manager.child("inner")
    child.create()
    child.apply(Resources(cpu=CPU(quota=50000, period=100000)))
    # Halving the period alone would pass the parent's share: the quota must be able to go first.
    child.apply(Resources(cpu=CPU(quota=20000, period=50000)))
    if "cpu" in manager.paths:  # v2 lets a child ask for more than it will get
        with pytest.raises(InvalidArgument, match="cpu"):
            child.apply(Resources(cpu=CPU(quota=100000, period=50000)))
    child.delete()


def test_frozen_processes_stop_and_die(manager: Manager) -> None:
    read_end, write_end = os.pipe()

    def count() -> None:
        while True:
            os.write(write_end, b".")

    _, pidfd = inside(manager, count)
    assert os.read(read_end, 1) == b"."
    manager.freeze()
    assert manager.frozen()
    os.set_blocking(read_end, False)
    with contextlib.suppress(BlockingIOError):
        while os.read(read_end, 65536):
            pass
    with pytest.raises(BlockingIOError):
        os.read(read_end, 1)
    again = Manager.from_state(manager.to_state(), path=manager.path)
    with pytest.raises(FailedPrecondition, match=r"not empty|frozen"):
        again.create()
    manager.kill_all()
    assert status_of(pidfd) == signal.SIGKILL
    assert not manager.frozen()
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("without_unified", [False, True])
def test_a_forking_crowd_dies_as_a_whole(manager: Manager, without_unified: bool) -> None:
    if without_unified and set(manager.paths) == {"unified"}:
        return  # there is no other way to be tried
    if "pids" in manager.paths or not without_unified:
        manager.apply(Resources(pids=Pids(limit=50)))

    def breed() -> None:
        while True:
            try:
                process.clone3(pidfd=False)
            except OSError:
                signal.pause()

    _, pidfd = inside(manager, breed)
    killer = manager
    if without_unified:
        state = {key: path for key, path in manager.to_state().items() if key != "unified"}
        killer = Manager.from_state(state)
    killer.kill_all()
    assert manager.pids() == []
    assert status_of(pidfd) == signal.SIGKILL


def test_delete_refuses_while_in_use_and_takes_sub_cgroups(manager: Manager) -> None:
    child = manager.child("exec/1")
    child.create()
    _, pidfd = inside(child, signal.pause)
    with pytest.raises(FailedPrecondition, match="still in use"):
        manager.delete(timeout_s=0.05)
    assert len(manager.pids()) == 1
    with pytest.raises(FailedPrecondition, match="not empty"):
        manager.create()
    manager.kill_all()
    status_of(pidfd)
    manager.delete()
    assert not manager.exists()
    manager.delete()


def test_what_is_not_here_is_said(manager: Manager) -> None:
    with pytest.raises(InvalidArgument, match="below"):
        manager.child("../x")
    if "memory" in manager.paths:
        with pytest.raises(InvalidArgument, match="unified"):
            manager.apply(Resources(unified={"memory.max": "1"}))
    if "hugetlb" not in manager.paths and "memory" in manager.paths:
        from sampan.model.runtime.resources import HugepageLimit

        with pytest.raises(Unimplemented, match="hugetlb"):
            manager.apply(Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=0),)))
