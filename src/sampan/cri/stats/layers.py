"""Usage of writable layers: a walk takes as long as there are files, so it is done now and then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from sampan.cri.stats import Layer
from sampan.errors import SampanError
from sampan.storage.snapshots import Usage

__all__ = ["Layers"]

log = logging.getLogger(__name__)


class Layers:
    """What each layer used when it was last walked; at most `period_s` ago, or under way.

    The first question waits for the walk. Later ones get the known answer at once, and when that
    has become old, start another walk, one at a time: a list of 500 containers does not walk 500
    trees side by side.
    """

    def __init__(
        self,
        walk: Callable[[str], Awaitable[Usage]],
        mountpoint: str,
        *,
        period_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Serve the layers of one snapshotter.

        Args:
          walk: `snapshotter.usage`.
          mountpoint: Its folder, as ImageFsInfo names it.
          period_s: `stats_collect_period`.
          clock: Monotonic seconds.
        """
        self._walk = walk
        self._mountpoint = mountpoint
        self._period_s = period_s
        self._clock = clock
        self._known: dict[str, tuple[float, Layer]] = {}
        self._walking: dict[str, asyncio.Task[Layer | None]] = {}
        self._turn = asyncio.Semaphore(1)

    async def get(self, key: str) -> Layer | None:
        """Return what snapshot `key` uses; None when it cannot be said."""
        known = self._known.get(key)
        if known is not None and self._clock() - known[0] < self._period_s:
            return known[1]
        task = self._walking.get(key)
        if task is None:
            work = self._measure(key)
            task = asyncio.get_running_loop().create_task(work, name=f"usage of {key}")
            self._walking[key] = task
            task.add_done_callback(lambda _: self._walking.pop(key, None))
        if known is not None:
            return known[1]
        return await asyncio.shield(task)

    def forget(self, key: str) -> None:
        """Drop what is known of a snapshot that was removed."""
        self._known.pop(key, None)

    async def close(self) -> None:
        """Wait for the walks that are under way."""
        while self._walking:
            for task in self._walking.values():
                task.cancel()
            await asyncio.wait(tuple(self._walking.values()))

    async def _measure(self, key: str) -> Layer | None:
        async with self._turn:
            try:
                usage = await self._walk(key)
            except (SampanError, OSError) as err:
                log.debug("usage of a layer is not known: snapshot=%s: %s", key, err)
                self._known.pop(key, None)
                return None
        layer = Layer(time.time_ns(), usage.size, usage.inodes, self._mountpoint)
        self._known[key] = (self._clock(), layer)
        return layer
