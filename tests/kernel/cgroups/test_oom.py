"""Hearing of out-of-memory kills."""

import select
import uuid

from sampan.cgroups import Manager
from sampan.testing import requires

pytestmark = requires("root", "cgroup:memory")


def test_a_watch_outlives_its_cgroup() -> None:
    """The removal wakes the watcher, who reads that nobody was killed."""
    manager = Manager(f"/sampan-test-{uuid.uuid4().hex}")
    manager.create()
    with manager.oom_watch() as watch:
        poll = select.poll()
        poll.register(watch.fd, select.POLLIN | select.POLLPRI)
        assert watch.read() == 0
        assert not poll.poll(0) or watch.read() == 0
        manager.delete()
        assert watch.read() == 0
    watch.close()


def test_two_watchers_hear_alike() -> None:
    manager = Manager(f"/sampan-test-{uuid.uuid4().hex}")
    manager.create()
    with manager.oom_watch() as one, manager.oom_watch() as other:
        assert one.fd != other.fd
        assert one.read() == other.read() == 0
    manager.delete()
