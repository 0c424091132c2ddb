"""StartContainer: a task in the pod's shim, and a watcher that waits for its end."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import shielded, to_thread
from sampan.cri.containers.stdio import streams_of
from sampan.cri.containers.watch import watch
from sampan.cri.store import state
from sampan.cri.store.records import Container
from sampan.errors import FailedPrecondition, NotFound, SampanError
from sampan.model.opaque import Opaque

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["start"]

log = logging.getLogger(__name__)

_ERROR_STATUS = 128
"""What kubelet shows for a container whose process could not be started, as containerd's."""


async def start(cri: Cri, request: pb.StartContainerRequest) -> pb.StartContainerResponse:
    """Start a created container.

    Raises:
      NotFound: there is none.
      FailedPrecondition: it was started before, its pod does not run, or it could not be executed.
    """
    container = cri.container(request.container_id)
    async with container.lock:
        if container.state != pb.CONTAINER_CREATED or container.removing:
            name = pb.ContainerState.Name(container.state)
            raise FailedPrecondition(f"container {container.id} is in state {name}: not created")
        pod = cri.pods.get(container.pod_id)
        if pod is None or not pod.ready:
            raise FailedPrecondition(f"sandbox {container.pod_id} is not running")
        container.starting = True
        try:
            await cri.plugged.starting(pod, container)
            await _start(cri, container)
        except SampanError as err:
            container.finished_ns = time.time_ns()
            container.exit_code = _ERROR_STATUS
            container.reason, container.message = "StartError", str(err)
            container.state = pb.CONTAINER_EXITED
            container.ended.set()
            await save(cri, container)
            raise
        finally:
            container.starting = False
    await cri.plugged.started(pod, container)
    await cri.events.container(pb.CONTAINER_STARTED_EVENT, container)
    return pb.StartContainerResponse()


async def _start(cri: Cri, container: Container) -> None:
    tasks = cri.engine.tasks
    snapshots = cri.engine.metadata.snapshotter(container.snapshotter)
    mounts = await snapshots.mounts(container.id)
    line_max = cri.settings.runtime.max_container_log_line_size
    folder = cri.container_folder(container.id) / "io"
    streams = await to_thread(streams_of, container, folder, line_max)
    restored = container.restored_from
    pid = await tasks.create(
        container.id,
        spec=container.spec,
        rootfs=mounts,
        runtime=container.runtime,
        stdio=streams,
        options=Opaque("containerd.runc.v1.Options", container.options)
        if container.options
        else None,
        checkpoint=restored,
        pod=cri.pod_shims.bundle(container.pod_id),
    )
    try:
        # What comes back from images runs already.
        container.pid = pid if restored else await tasks.start(container.id)
    except BaseException:
        await shielded(30, _discard(cri, container.id))
        raise
    container.started_ns = time.time_ns()
    container.state = pb.CONTAINER_RUNNING
    await save(cri, container)
    watch(cri, container)


async def _discard(cri: Cri, id: str) -> None:
    try:
        await cri.engine.tasks.delete(id, force=True)
    except NotFound:
        log.debug("task is gone: container=%s", id)


async def save(cri: Cri, container: Container) -> None:
    """Write the container's status file."""
    path = cri.container_folder(container.id) / "status.json"
    await to_thread(state.write, path, container.status())
