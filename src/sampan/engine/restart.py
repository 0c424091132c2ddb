"""The restart monitor: containers that say by label that they shall run, run.

    containerd.io/restart.status              running | stopped: what is wanted
    containerd.io/restart.policy              always (default) on-failure[:N] unless-stopped no
    containerd.io/restart.explicitly-stopped  true: somebody stopped it; unless-stopped respects it
    containerd.io/restart.count               how often we have started it; written by us
    containerd.io/restart.loguri              where it writes; none is nowhere

Every interval all are looked at, and at each exit the one that ended, so that it is back at once;
but no container is started twice within an interval, however fast it fails. A paused task is left
alone. Source: containerd core/runtime/restart, plugins/restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sampan import context
from sampan.concurrency import shielded
from sampan.errors import AlreadyExists, NotFound, ResourceExhausted, SampanError
from sampan.metadata import Container, Metadata
from sampan.runtime import ProcessState, Status, Stdio

if TYPE_CHECKING:
    from sampan.events import Exchange
    from sampan.model.mounts import Mount
    from sampan.runtime import Tasks

__all__ = ["Monitor", "wants_start"]

log = logging.getLogger(__name__)

_LABEL: Final = "containerd.io/restart."
_FILTER: Final = 'labels."containerd.io/restart.status"'
_SIGKILL: Final = 9
_UNDO_S: Final = 30.0


def wants_start(labels: Mapping[str, str], state: ProcessState | None) -> bool:
    """Tell whether a container whose task is `state`, None for no task, shall be started."""
    if labels.get(f"{_LABEL}status") != "running":
        return False
    if state is not None and state.status is not Status.STOPPED:
        # Running, paused, or just being created by somebody.
        return False
    policy, _, most = labels.get(f"{_LABEL}policy", "").partition(":")
    match policy:
        case "" | "always":
            return True
        case "unless-stopped":
            return labels.get(f"{_LABEL}explicitly-stopped") != "true"
        case "on-failure":
            if state is not None and state.exit_status == 0:
                return False
            limit = int(most) if most.isascii() and most.isdecimal() else 0
            return limit == 0 or _count(labels) < limit
        case _:
            return False


def _count(labels: Mapping[str, str]) -> int:
    text = labels.get(f"{_LABEL}count", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


class Monitor:
    """Looks after the containers of all namespaces."""

    def __init__(
        self, metadata: Metadata, tasks: Tasks, events: Exchange, interval_s: float = 10.0
    ) -> None:
        self._metadata = metadata
        self._tasks = tasks
        self._events = events
        self._interval_s = max(interval_s, 0.1)
        self._started: dict[tuple[str, str], float] = {}
        """When each was started last, by the monotonic clock."""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._on_exits())
            while True:
                await self.look()
                await asyncio.sleep(self._interval_s)

    async def _on_exits(self) -> None:
        while True:
            try:
                async with self._events.subscribe('topic=="/tasks/exit"') as envelopes:
                    async for envelope in envelopes:
                        # Who asked for the end changes the label and deletes the task first.
                        await self._namespace(envelope.namespace)
            except ResourceExhausted:
                await self.look()

    async def look(self) -> None:
        """Look at all containers once."""
        try:
            for namespace in await self._metadata.namespaces.list():
                await self._namespace(namespace.name)
        except SampanError:
            log.exception("restart monitor cannot look at containers")

    async def _namespace(self, name: str) -> None:
        with context.scope(name):
            for container in await self._metadata.containers.list(_FILTER):
                try:
                    await self._reconcile(name, container)
                except SampanError as err:
                    log.warning("container is not restarted: %s: container=%s", err, container.id)

    async def _reconcile(self, namespace: str, container: Container) -> None:
        try:
            state: ProcessState | None = await self._tasks.state(container.id)
        except NotFound:
            state = None
        if container.labels.get(f"{_LABEL}status") == "stopped":
            if state is not None and state.status is Status.RUNNING:
                await self._tasks.kill(container.id, _SIGKILL, all=True)
            return
        if not wants_start(container.labels, state):
            return
        key, now = (namespace, container.id), time.monotonic()
        if now - self._started.get(key, -self._interval_s) < self._interval_s:
            return
        self._started[key] = now
        if state is not None:
            await self._tasks.delete(container.id)
        await self._start(container)

    async def _start(self, container: Container) -> None:
        count = _count(container.labels) + 1
        labels = {**container.labels, f"{_LABEL}count": str(count)}
        await self._metadata.containers.update(
            Container(id=container.id, runtime=container.runtime, labels=labels),
            [f"labels.{_LABEL}count"],
        )
        uri = container.labels.get(f"{_LABEL}loguri", "")
        mounts: Sequence[Mount] = ()
        if container.snapshot_key:
            view = self._metadata.snapshotter(container.snapshotter)
            mounts = await view.mounts(container.snapshot_key)
        try:
            await self._tasks.create(
                container.id,
                spec=container.spec.value,
                rootfs=mounts,
                runtime=container.runtime.name,
                stdio=Stdio(stdout=uri, stderr=uri),
                options=container.runtime.options,
            )
        except AlreadyExists:
            return
        try:
            await self._tasks.start(container.id)
        except BaseException:
            await shielded(_UNDO_S, self._tasks.delete(container.id, force=True))
            raise
        log.info("container restarted: container=%s count=%d", container.id, count)
