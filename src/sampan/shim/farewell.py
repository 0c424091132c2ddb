"""A shim whose containers have ended need not stay: it writes down how, cleans up, and goes.

For callers that look into the bundle (`runtime` does), and asked for by `Config.leave_after_s`.

    <bundle>/ended    {"pid", "status", "at_ns"}: written when init ends, before the event; so that
                      the status is known even when the shim is killed after that
    <bundle>/exit     the same, by rename: nothing is mounted, no cgroup is left, no shim lives
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from sampan.errors import SampanError
from sampan.model.runtime.document import dumps
from sampan.rpc.loop import Loop, Timer
from sampan.shim.publisher import Publisher
from sampan.shim.service import TaskService
from sampan.shim.tasks import Container

__all__ = ["Farewell"]


class Farewell:
    """Looks after the end of a shim that serves one bundle."""

    def __init__(
        self,
        loop: Loop,
        tasks: TaskService,
        publisher: Publisher,
        end: Callable[[], None],
        after_s: float,
    ) -> None:
        """Begin; `end` ends the shim."""
        self._loop = loop
        self._tasks = tasks
        self._publisher = publisher
        self._end = end
        self._after_s = after_s
        self._timer: Timer | None = None

    def ended(self, container: Container) -> None:
        """Note how a container ended, and go in time."""
        end = container.init.exit
        assert end is not None  # noqa: S101  it is told after that is set
        values = {"pid": container.init.pid, "status": end.status, "at_ns": end.at_ns}
        path = os.path.join(container.bundle, "ended")
        with contextlib.suppress(OSError):
            with open(f"{path}.tmp", "w") as file:
                file.write(dumps(values))
            os.rename(f"{path}.tmp", path)
        self.consider()

    def consider(self) -> None:
        """Go after a while; for the first server of a keeper, and for each after it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._after_s, self._go)

    def _go(self) -> None:
        self._timer = None
        tasks = self._tasks
        if tasks.kept() or not tasks.all_ended():
            return
        if tasks.draining() or not self._publisher.idle_now:
            self.consider()
            return
        self._loop.spawn(self._leave())

    async def _leave(self) -> None:
        for container in list(self._tasks.containers.values()):
            try:
                await self._tasks.forget(container)
            except (SampanError, OSError):
                return  # it stays, and is deleted or buried by somebody who is told why
            with contextlib.suppress(OSError):
                path = os.path.join(container.bundle, "ended")
                os.rename(path, os.path.join(container.bundle, "exit"))
        self._end()
