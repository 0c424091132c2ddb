"""Cgroups of execs on the real kernel."""

import os
import select
import uuid
from collections.abc import Iterator

import pytest

from sampan.cgroups import Manager
from sampan.linux import process
from sampan.oci import execgroup
from sampan.testing import requires

pytestmark = requires("root")


@pytest.fixture
def container() -> Iterator[Manager]:
    made = Manager(f"/sampan-test-{uuid.uuid4().hex}")
    made.create()
    yield made
    made.kill_all()
    made.delete()


def sleeper(manager: Manager) -> tuple[int, int]:
    """Start a process that joins all v1 cgroups by itself, as births do."""
    fd = manager.clone_fd()
    files = manager.open_tasks()
    assert files is not None
    ready, done = os.pipe()
    pid, pidfd = process.clone3(cgroup_fd=fd)
    if pid == 0:
        try:
            for each, _ in files:
                os.write(each, b"0")
            os.write(done, b".")
            select.poll().poll()
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"."
    for each in (ready, done, *(each for each, _ in files), *([fd] if fd is not None else [])):
        os.close(each)
    return pid, pidfd


def reap(pidfd: int) -> None:
    assert select.select([pidfd], [], [], 10)[0]
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def test_one_group_is_killed(container: Manager) -> None:
    first, first_fd = sleeper(execgroup.join(container, "exec-1"))
    second, second_fd = sleeper(execgroup.join(container, "exec-2"))
    assert set(container.pids()) == {first, second}
    execgroup.signal(container, "exec-1", 9)
    reap(first_fd)
    assert container.pids() == [second]
    execgroup.remove(container, "exec-1")
    execgroup.remove(container, "exec-1")  # harmless
    execgroup.signal(container, "exec-1", 9)  # nobody is there
    execgroup.signal(container, "exec-2", 15)
    reap(second_fd)


def test_what_lives_is_moved_up(container: Manager) -> None:
    pid, pidfd = sleeper(execgroup.join(container, "exec-1"))
    execgroup.remove(container, "exec-1")
    key = "unified" if "unified" in container.paths else "freezer"
    assert not os.path.exists(f"{container.paths[key]}/exec-1")
    with open(f"{container.paths[key]}/cgroup.procs") as file:
        assert file.read().split() == [str(pid)]
    os.kill(pid, 9)
    reap(pidfd)


def test_a_process_that_joins_by_itself_is_in_every_hierarchy(container: Manager) -> None:
    pid, pidfd = sleeper(container)
    for path in set(container.paths.values()):
        with open(f"{path}/cgroup.procs") as file:
            assert str(pid) in file.read().split(), path
    os.kill(pid, 9)
    reap(pidfd)
