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
    """Watches containers by the pid of their init; one fd each."""

    def __init__(self, loop: Loop, publisher: Publisher) -> None:
        self._loop = loop
        self._publisher = publisher
        self._watched: dict[str, tuple[int, str, int]] = {}
        """Of each container the fd, the v1 folder or v2 file, and how many kills were seen there
        (-1 on v1, where each event is one)."""

    def add(self, id: str, pid: int) -> None:
        """Watch a container that has just been created; without a memory cgroup, do nothing."""
        with contextlib.suppress(OSError, SampanError):
            where = cgroup.paths(pid)
            folder = where.get("memory")
            if folder is None:
                self._add_v2(id, f"{where['']}/memory.events")
            elif os.path.basename(folder):
                self._add_v1(id, folder)

    def save(self) -> dict[str, tuple[int, str, int]]:
        """Return what another watch in a process with the same fds can go on with."""
        return self._watched

    def restore(self, saved: dict[str, tuple[int, str, int]]) -> None:
        """Go on."""
        for container_id, (fd, path, seen) in saved.items():
            self._watch(container_id, fd, path, seen)

    def _add_v1(self, id: str, folder: str) -> None:
        control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._write(f"{folder}/cgroup.event_control", f"{event} {control}")
        except OSError:
            os.close(event)
            raise
        finally:
            os.close(control)
        self._watch(id, event, folder, -1)

    def _add_v2(self, id: str, path: str) -> None:
        inotify = check(_inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
        try:
            check(_inotify_add_watch(inotify, os.fsencode(path), _IN_MODIFY), "inotify_add_watch")
        except OSError:
            os.close(inotify)
            raise
        self._watch(id, inotify, path, _kills(path))

    def _watch(self, id: str, fd: int, path: str, seen: int) -> None:
        self._watched[id] = (fd, path, seen)
        self._loop.watch(fd, IN, lambda _events: self._fired(id))

    def _fired(self, id: str) -> None:
        fd, path, seen = self._watched[id]
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 4096)
        if seen < 0:
            # The kernel fires it once more when the cgroup is removed.
            killed = there = os.path.exists(f"{path}/cgroup.procs")
        else:
            now = _kills(path)
            killed, there = now > seen, os.path.exists(path)
            self._watched[id] = (fd, path, max(seen, now))
        if killed:
            self._publisher.publish("/tasks/oom", TaskOOM(container_id=id))
        elif not there:
            self.remove(id)

    @staticmethod
    def _write(path: str, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def remove(self, id: str) -> None:
        """Stop watching; harmless twice."""
        if id in self._watched:
            fd, _, _ = self._watched.pop(id)
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
