"""OOM kills in containers, as events: on v1 by eventfd, on v2 by inotify on memory.events."""

from __future__ import annotations

import contextlib
import os

from sampan.errors import SampanError
from sampan.linux._libc import by_number, check
from sampan.rpc.loop import IN, Loop
from sampan.rpc.messages.events import TaskOOM
from sampan.shim import cgroup
from sampan.shim.publisher import Publisher

__all__ = ["OomWatch"]

_IN_MODIFY = 2
_inotify_init1 = by_number("inotify_init1", 1)
_inotify_add_watch = by_number("inotify_add_watch", 3)


class OomWatch:
    """Watches containers by the pid of their init; one fd or two each."""

    def __init__(self, loop: Loop, publisher: Publisher) -> None:
        self._loop = loop
        self._publisher = publisher
        self._fds: dict[str, list[int]] = {}

    def add(self, id: str, pid: int) -> None:
        """Watch a container that has just been created; without a memory cgroup, do nothing."""
        with contextlib.suppress(OSError, SampanError):
            where = cgroup.paths(pid)
            folder = where.get("memory")
            if folder is None:
                self._add_v2(id, f"{where['']}/memory.events")
            elif os.path.basename(folder):
                self._add_v1(id, folder)

    def _add_v1(self, id: str, folder: str) -> None:
        control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._fds[id] = [event]
        try:
            self._write(f"{folder}/cgroup.event_control", f"{event} {control}")
        finally:
            os.close(control)

        def fired(_events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(event)
            # The kernel fires it once more when the cgroup is removed.
            if os.path.exists(f"{folder}/cgroup.procs"):
                self._publisher.publish("/tasks/oom", TaskOOM(container_id=id))
            else:
                self.remove(id)

        self._loop.watch(event, IN, fired)

    def _add_v2(self, id: str, path: str) -> None:
        inotify = check(_inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
        self._fds[id] = [inotify]
        check(_inotify_add_watch(inotify, os.fsencode(path), _IN_MODIFY), "inotify_add_watch")
        seen = _kills(path)

        def fired(_events: int) -> None:
            nonlocal seen
            with contextlib.suppress(BlockingIOError):
                os.read(inotify, 4096)
            now = _kills(path)
            if now > seen:
                seen = now
                self._publisher.publish("/tasks/oom", TaskOOM(container_id=id))
            elif not os.path.exists(path):
                self.remove(id)

        self._loop.watch(inotify, IN, fired)

    @staticmethod
    def _write(path: str, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def remove(self, id: str) -> None:
        """Stop watching; harmless twice."""
        for fd in self._fds.pop(id, ()):
            self._loop.unwatch(fd)
            os.close(fd)


def _kills(path: str) -> int:
    try:
        with open(path) as file:
            for line in file:
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        return 0
    return 0
