"""StopPodSandbox and RemovePodSandbox: any number of times, whatever is left of the pod."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.sandboxes import network
from sampan.cri.sandboxes.namespaces import unpin
from sampan.cri.together import together
from sampan.errors import NotFound, SampanError

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Pod

__all__ = ["dismantle", "remove", "stop"]

log = logging.getLogger(__name__)


async def stop(cri: Cri, request: pb.StopPodSandboxRequest) -> pb.StopPodSandboxResponse:
    """End all containers of a pod, and take down what it shares; an unknown one is fine."""
    pod = cri.find_pod(request.pod_sandbox_id)
    if pod is not None:
        async with pod.lock:
            await _stop(cri, pod)
    return pb.StopPodSandboxResponse()


async def _stop(cri: Cri, pod: Pod) -> None:
    from sampan.cri.containers.stop import end

    was_ready, pod.ready = pod.ready, False
    await together(*(end(cri, container, 0) for container in cri.containers_of(pod.id)))
    if was_ready:
        await cri.plugged.stop_pod(pod)
    await dismantle(cri, pod)
    if was_ready:
        await cri.events.pod(pb.CONTAINER_STOPPED_EVENT, pod)


async def dismantle(cri: Cri, pod: Pod) -> None:
    """Undo what RunPodSandbox made, down to its folder and record.

    A network that cannot be torn down holds nothing else up, and is tried again the next time.
    """
    cri.unwatch_pod(pod)
    if pod.holder:
        try:
            await cri.engine.tasks.delete(pod.id, force=True)
        except NotFound:
            log.debug("pod had no holder: sandbox=%s", pod.id)
        pod.holder_pid = 0
        with suppress(NotFound):
            await cri.engine.metadata.snapshotter(cri.settings.images.snapshotter).remove(pod.id)
    failed: SampanError | None = None
    if not pod.host_network:
        try:
            # Before its namespace goes: plugins look into it.
            await network.tear_down(cri, pod)
        except SampanError as err:
            failed = err
    await together(cri.pod_shims.delete(pod.id), unpin(cri, pod))
    await to_thread(cri.remove_pod_cgroup, pod)
    if failed is not None:
        raise failed


async def remove(cri: Cri, request: pb.RemovePodSandboxRequest) -> pb.RemovePodSandboxResponse:
    """Forget a pod and its containers; what still runs is stopped; an unknown one is fine."""
    from sampan.cri.containers.remove import discard

    pod = cri.find_pod(request.pod_sandbox_id)
    if pod is None:
        return pb.RemovePodSandboxResponse()
    async with pod.lock:
        if pod.removed:
            return pb.RemovePodSandboxResponse()
        await _stop(cri, pod)
        for container in cri.containers_of(pod.id):
            await discard(cri, container)
        await to_thread(cri.remove_folder, cri.pod_folder(pod.id))
        try:
            await cri.engine.metadata.sandboxes.delete(pod.id)
        except NotFound:
            log.debug("pod had no record: sandbox=%s", pod.id)
        await cri.plugged.remove_pod(pod)
        pod.removed = True
        cri.pods.pop(pod.id, None)
        cri.figures.forget(pod.id)
        cri.pod_names.release(pod.name, pod.id)
    await cri.events.pod(pb.CONTAINER_DELETED_EVENT, pod)
    return pb.RemovePodSandboxResponse()
