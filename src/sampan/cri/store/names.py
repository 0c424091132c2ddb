"""Names of pods and containers: each belongs to one thing at a time, also across retries.

A kubelet whose call timed out asks again for the same name. While the first attempt is under way,
the second one waits for it and takes over what it made (`Flights`); afterwards the name is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sampan.errors import AlreadyExists

__all__ = ["Flights", "Names"]


class Names:
    """Which id holds which name."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._ids: dict[str, str] = {}

    def reserve(self, name: str, id: str) -> None:
        """Take a name.

        Raises:
          AlreadyExists: another id has it.
        """
        holder = self._ids.setdefault(name, id)
        if holder != id:
            raise AlreadyExists(f"{self._kind} name {name!r} is reserved for {holder!r}")

    def release(self, name: str, id: str) -> None:
        """Give it back; harmless if it is not held."""
        if self._ids.get(name) == id:
            del self._ids[name]


class Flights:
    """Creations under way, by name; each goes on when its caller gives up."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[bytes, asyncio.Task[str]]] = {}

    async def join(self, name: str, request: bytes, work: Callable[[], Awaitable[str]]) -> str:
        """Return what `work` makes, or what an equal request under that name is making already.

        Raises:
          AlreadyExists: a different request under that name is under way.
        """
        known = self._tasks.get(name)
        if known is not None and known[0] != request:
            raise AlreadyExists(f"name {name!r} is reserved by another request under way")
        if known is None:

            async def run() -> str:
                return await work()

            task = asyncio.get_running_loop().create_task(run(), name=name)
            self._tasks[name] = (request, task)
            task.add_done_callback(lambda done: self._done(name, done))
        else:
            task = known[1]
        return await asyncio.shield(task)

    def _done(self, name: str, task: asyncio.Task[str]) -> None:
        del self._tasks[name]
        if not task.cancelled():
            task.exception()  # seen: whoever waited has it, and nobody may have waited

    async def close(self) -> None:
        """Cancel what is under way, and wait for its undoing."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
