"""StopContainer: the stop signal, some time, then SIGKILL; also the end of a pod's containers."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.store.records import Container
from sampan.errors import DeadlineExceeded, FailedPrecondition, NotFound

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["end", "stop"]

log = logging.getLogger(__name__)

_KILL_S: Final = 60.0
"""How long a killed process may take to vanish, say in a disk's queue."""


async def stop(cri: Cri, request: pb.StopContainerRequest) -> pb.StopContainerResponse:
    """Stop a container; one that does not run, or does not exist, is fine.

    Raises:
      DeadlineExceeded: it outlives SIGKILL.
    """
    container = cri.find_container(request.container_id)
    if container is not None:
        await end(cri, container, max(0, request.timeout))
    return pb.StopContainerResponse()


async def end(cri: Cri, container: Container, grace_s: float) -> None:
    """End a container if it runs; `grace_s` 0 kills at once."""
    if container.starting:
        async with container.lock:
            pass  # it is being started just now: what comes of that is to be stopped
    if container.state != pb.CONTAINER_RUNNING:
        return
    if grace_s > 0 and await _ask(cri, container, grace_s):
        return
    if not await _signal(cri, container, signal.SIGKILL):
        await _ended(container, 5)
    if not await _ended(container, _KILL_S):
        raise DeadlineExceeded(
            f"container {container.id} still runs {_KILL_S:g} s after SIGKILL: it may be stuck in"
            " the kernel"
        )


async def _ask(cri: Cri, container: Container, grace_s: float) -> bool:
    await _signal(cri, container, container.stop_signal or signal.SIGTERM)
    return await _ended(container, grace_s)


async def _signal(cri: Cri, container: Container, number: int) -> bool:
    everything = number == signal.SIGKILL
    try:
        await cri.engine.tasks.kill(container.id, number, all=everything)
    except (NotFound, FailedPrecondition) as err:
        log.debug("signal came late: container=%s: %s", container.id, err)
        return False
    return True


async def _ended(container: Container, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await container.ended.wait()
    except TimeoutError:
        return False
    return True
