"""RemoveContainer: what runs is killed; snapshot, views, folders and record go; the log stays."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.containers import volumes
from sampan.cri.containers.stop import end
from sampan.cri.store.records import Container
from sampan.errors import NotFound

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["discard", "remove"]

log = logging.getLogger(__name__)


async def remove(cri: Cri, request: pb.RemoveContainerRequest) -> pb.RemoveContainerResponse:
    """Remove a container in whatever state; one that does not exist is fine."""
    container = cri.find_container(request.container_id)
    if container is not None:
        await discard(cri, container)
    return pb.RemoveContainerResponse()


async def discard(cri: Cri, container: Container) -> None:
    """Remove a container and all that is its own."""
    container.removing = True
    async with container.lock:
        if cri.containers.get(container.id) is not container:
            return
        await end(cri, container, 0)
        with suppress(NotFound):
            # Only of a container that was never started, or whose deletion failed before.
            await cri.engine.tasks.delete(container.id, force=True)
        folder = cri.container_folder(container.id)
        await to_thread(volumes.unmount, folder)
        metadata = cri.engine.metadata
        with suppress(NotFound):
            await metadata.containers.delete(container.id, snapshots=metadata.snapshotters)
        if container.views:
            await volumes.drop_views(cri, container.id)
        for one in (folder, cri.container_root(container.id)):
            await to_thread(cri.remove_folder, one)
        await cri.plugged.removed(container)
        cri.containers.pop(container.id, None)
        cri.figures.forget(container.id, container.snapshotter)
        cri.container_names.release(container.name, container.id)
    await cri.events.container(pb.CONTAINER_DELETED_EVENT, container)
