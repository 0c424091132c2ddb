"""When a server has nothing to do: it hands everything to its keeper, and ends.

Nothing to do means: for a while no event has come; no timer runs; no call is under way but those
that wait for an end (Wait, WaitSandbox), which the next server makes again from their requests; no
bytes of a stream or of a connection are held; all events are published.
"""

from __future__ import annotations

import time

from sampan.rpc.loop import Loop
from sampan.rpc.server import Server
from sampan.shim.keeper import Kept
from sampan.shim.publisher import Publisher
from sampan.shim.reaper import Reaper
from sampan.shim.sandbox import SandboxService
from sampan.shim.service import TaskService

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Rest"]

_LONGEST = 8
"""Times the configured idleness."""
_SHORT = 8
"""A rest shorter than so many times the wait for it was not worth it."""


class Rest:
    """Looks after one server of a keeper."""

    def __init__(
        self,
        kept: Kept,
        loop: Loop,
        server: Server,
        reaper: Reaper,
        publisher: Publisher,
        tasks: TaskService,
        sandboxes: SandboxService,
        *,
        idle_s: float,
    ) -> None:
        """Remember all parts; a server rests after `idle_s`, later if it was woken too soon."""
        self._kept = kept
        self._loop = loop
        self._server = server
        self._reaper = reaper
        self._publisher = publisher
        self._tasks = tasks
        self._sandboxes = sandboxes
        self._idle_s = idle_s

    def begin(self, state: dict[str, Any] | None) -> None:
        """Go on from `state`, if the keeper has one, and rest in time."""
        idle_s = self._idle_s
        if state is not None:
            self._reaper.restore(state["strangers"])
            self._sandboxes.restore(state["sandbox"])
            self._tasks.restore(state["tasks"])
            self._server.restore(state["server"])
            rested_s = time.monotonic() - state["since_s"]
            if rested_s < _SHORT * state["idle_s"]:
                idle_s = min(2 * state["idle_s"], _LONGEST * idle_s)
        self._loop.idle_s = idle_s
        self._loop.on_idle = self._rest

    def _rest(self) -> None:
        loop = self._loop
        if loop.lingering or loop.active != self._server.waiting:
            return
        server, tasks = self._server.save(), self._tasks.save()
        if server is None or tasks is None or not self._publisher.rest():
            return
        self._kept.rest(
            {
                "strangers": self._reaper.save(),
                "sandbox": self._sandboxes.save(),
                "tasks": tasks,
                "server": server,
                "since_s": time.monotonic(),
                "idle_s": loop.idle_s,
            }
        )
