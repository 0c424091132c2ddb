"""Hearing of out-of-memory kills: an eventfd on v1, inotify on v2."""

from __future__ import annotations

import os

from sampan.cgroups.files import Cgroup, translate
from sampan.errors import SampanError
from sampan.linux._libc import by_number, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["OomWatch", "watch_v1", "watch_v2"]

_inotify_init1 = by_number("inotify_init1", 1)
_inotify_add_watch = by_number("inotify_add_watch", 3)
_IN_MODIFY = 2


class OomWatch:
    """A non-blocking fd, readable when something may have happened; owned by this object."""

    __slots__ = ("_cgroup", "_file", "_seen", "fd")

    def __init__(self, fd: int, cgroup: Cgroup, file: str) -> None:
        self.fd = fd
        self._cgroup = cgroup
        self._file = file
        self._seen = self._count() or 0

    def _count(self) -> int | None:
        try:
            return self._cgroup.flat(self._file).get("oom_kill")
        except SampanError:  # the cgroup is gone
            return None

    def read(self) -> int:
        """Return how many processes were killed since the last call; never waits.

        A v1 eventfd also fires when the cgroup is removed, v2's file also changes for other
        reasons: both give 0. A v1 kernel without the counter (before 4.13) gives 1 per event.
        """
        try:
            events = os.read(self.fd, 4096)
        except BlockingIOError:
            events = b""
        count = self._count()
        if count is None:
            return int(bool(events) and os.path.isdir(self._cgroup.path))
        new, self._seen = count - self._seen, count
        return new

    def close(self) -> None:
        """Stop watching."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def watch_v1(cgroup: Cgroup) -> OomWatch:
    """Watch memory.oom_control. Source: cgroup-v1/memory.rst, section 10."""
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{cgroup.path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            cgroup.write("cgroup.event_control", f"{event} {control}")
        finally:
            os.close(control)
    except OSError as error:
        os.close(event)
        raise translate(error, f"watch {cgroup.path}/memory.oom_control") from error
    except BaseException:
        os.close(event)
        raise
    return OomWatch(event, cgroup, "memory.oom_control")


def watch_v2(cgroup: Cgroup) -> OomWatch:
    """Watch memory.events, which the kernel marks modified when a counter grows."""
    path = f"{cgroup.path}/memory.events"
    fd = check(_inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
    try:
        check(_inotify_add_watch(fd, path.encode(), _IN_MODIFY), "inotify_add_watch", path)
    except OSError as error:
        os.close(fd)
        raise translate(error, f"watch {path}") from error
    return OomWatch(fd, cgroup, "memory.events")
