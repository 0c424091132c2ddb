"""The watcher of a running container: waits for its end, notes how it was, cleans up after it.

exit ─▶ was it the OOM killer? (the cgroup still tells) ─▶ task deleted ─▶ status written ─▶ event

The task is deleted before anybody hears of the end, so that who removes a container that has just
ended finds nothing of it in the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.store import state
from sampan.cri.store.records import Container
from sampan.errors import NotFound, SampanError, Unavailable
from sampan.runtime import Exit

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["UNKNOWN_STATUS", "finish", "watch"]

log = logging.getLogger(__name__)

UNKNOWN_STATUS: Final = 255
"""Of a container whose end nobody saw, as containerd has it."""
_TRIES: Final = 5


def watch(cri: Cri, container: Container) -> None:
    """Wait for the container's end beside everything else."""
    cri.spawn(f"container-{container.id}", _watch(cri, container))


async def _watch(cri: Cri, container: Container) -> None:
    tasks = cri.engine.tasks
    while True:
        try:
            ended = await tasks.wait(container.id)
            break
        except NotFound:
            ended = Exit(container.pid, UNKNOWN_STATUS, time.time_ns())
            break
        except Unavailable:
            if cri.engine.shims.closed:
                return
            await asyncio.sleep(0.05)
    await finish(cri, container, ended)


async def finish(cri: Cri, container: Container, ended: Exit) -> None:
    """Note the end and remove the task."""
    killed = bool(ended.status) and await to_thread(_oom_killed, cri, container)
    await _delete_task(cri, container.id)
    container.exit_code = ended.status
    container.finished_ns = ended.exited_at_ns or time.time_ns()
    container.pid = 0
    if killed:
        container.reason = "OOMKilled"
    elif not container.reason:
        container.reason = "Completed" if ended.status == 0 else "Error"
    container.state = pb.CONTAINER_EXITED
    path = cri.container_folder(container.id) / "status.json"
    await to_thread(state.write, path, container.status())
    await cri.plugged.stopped(container)
    container.ended.set()
    await cri.events.container(pb.CONTAINER_STOPPED_EVENT, container)


async def _delete_task(cri: Cri, id: str) -> None:
    for _ in range(_TRIES):
        try:
            await cri.engine.tasks.delete(id, force=True)
        except NotFound:
            return
        except SampanError:
            log.exception("task of an ended container stays for now: container=%s", id)
            await asyncio.sleep(0.2)
        else:
            return


def _oom_killed(cri: Cri, container: Container) -> bool:
    """Ask the container's memory cgroup, which lives until the task is deleted."""
    pod = cri.pods.get(container.pod_id)
    if pod is None:
        return False
    return oom_kills(cri.cgroup_folder(pod, container.id)) > 0


def oom_kills(path: str) -> int:
    """Return how often the kernel has killed in this cgroup for want of memory."""
    for file in (
        Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control"),
        Path(f"/sys/fs/cgroup{path}/memory.events"),
    ):
        try:
            text = file.read_text()
        except OSError:
            continue
        for line in text.splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0
