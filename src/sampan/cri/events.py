"""GetContainerEvents: what happens, told to all who listen, with the state at that moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from sampan.api.cri.v1 import api_pb2 as pb

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Container, Pod

__all__ = ["Events"]

log = logging.getLogger(__name__)

_QUEUE_MAX: Final = 4096


class Events:
    """Listeners and their queues; who does not read for 4096 events loses the oldest."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri
        self._queues: set[asyncio.Queue[pb.ContainerEventResponse]] = set()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._queues)

    async def container(self, kind: pb.ContainerEventType, one: Container) -> None:
        """Tell what happened to a container."""
        self._tell(kind, one.id, self._cri.pods.get(one.pod_id))

    async def pod(self, kind: pb.ContainerEventType, pod: Pod) -> None:
        """Tell what happened to a pod, whose id stands for a container's then."""
        self._tell(kind, pod.id, pod)

    def _tell(self, kind: pb.ContainerEventType, id: str, pod: Pod | None) -> None:
        if not self._queues:
            return
        from sampan.cri.containers.status import status_of
        from sampan.cri.sandboxes.status import status_of as pod_status

        event = pb.ContainerEventResponse(
            container_id=id, container_event_type=kind, created_at=time.time_ns()
        )
        if pod is not None:
            event.pod_sandbox_status.CopyFrom(pod_status(pod))
            event.containers_statuses.extend(
                status_of(self._cri, one) for one in self._cri.containers_of(pod.id)
            )
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
                log.warning("a listener for container events does not read: event dropped")
            queue.put_nowait(event)

    async def listen(self) -> AsyncIterator[pb.ContainerEventResponse]:
        """Yield events from now on."""
        queue: asyncio.Queue[pb.ContainerEventResponse] = asyncio.Queue(_QUEUE_MAX)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
