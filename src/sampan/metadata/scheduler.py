"""When to collect: after enough changes, and never so often that writers feel it.

Source: containerd docs/garbage-collection.md, section on configuration, for the keys and defaults.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from sampan.errors import SampanError
from sampan.metadata import GcStats

__all__ = ["GcConfig", "Scheduler"]

log = logging.getLogger(__name__)


class GcConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[plugins."io.containerd.gc.v1.scheduler"]; times in seconds."""

    pause_threshold: float = 0.02
    """Largest share of time that writers may wait for collections, up to 0.5."""
    deletion_threshold: int = 0
    """Collect after so many deletions; 0 never because of deletions alone."""
    mutation_threshold: int = 100
    """Collect after so many changes, if one of them deleted something."""
    schedule_delay: float = 0.0
    """Wait so long between the decision and the collection."""
    startup_delay: float = 0.1
    """Collect so long after the start."""


class Scheduler:
    """Counts changes and calls `collect`; `run` it in a TaskGroup and cancel it to stop."""

    def __init__(
        self, collect: Callable[[], Awaitable[GcStats]], config: GcConfig | None = None
    ) -> None:
        self._collect = collect
        self._config = config or GcConfig()
        self._mutations = 0
        self._deletions = 0
        self._due = asyncio.Event()
        self.collections = 0
        """How many collections it has made."""

    def changed(self, deleted: bool) -> None:
        """Count a transaction; from the event loop."""
        self._mutations += 1
        self._deletions += deleted
        config = self._config
        by_deletions = 0 < config.deletion_threshold <= self._deletions
        # Without a deletion nothing can have become garbage, but by the expiry of a lease.
        by_mutations = 0 < config.mutation_threshold <= self._mutations and self._deletions
        if by_deletions or by_mutations:
            self._due.set()

    async def run(self) -> None:
        """Collect after the start and then whenever it is due, until cancelled."""
        await asyncio.sleep(self._config.startup_delay)
        while True:
            self._mutations = self._deletions = 0
            self._due.clear()
            pause_s = 0.0
            try:
                stats = await self._collect()
                pause_s = stats.locked_s
            except (SampanError, OSError):
                log.exception("collection failed; the next one tries again")
            self.collections += 1
            share = min(max(self._config.pause_threshold, 0.001), 0.5)
            await asyncio.sleep(pause_s / share - pause_s)
            await self._due.wait()
            await asyncio.sleep(self._config.schedule_delay)
