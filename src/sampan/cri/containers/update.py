"""UpdateContainerResources, and UpdatePodSandboxResources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.containers.start import save
from sampan.cri.nri import kubelets_resources
from sampan.cri.plugged import apply
from sampan.cri.spec.resources import merged, resources_of, swap_is_limited
from sampan.errors import FailedPrecondition

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["update", "update_pod"]


async def update(
    cri: Cri, request: pb.UpdateContainerResourcesRequest
) -> pb.UpdateContainerResourcesResponse:
    """Change the limits of a container, now if it runs, else for its start.

    Raises:
      NotFound: there is none.
      FailedPrecondition: it has ended.
      InvalidArgument: the kernel refuses a value.
    """
    container = cri.container(request.container_id)
    async with container.lock:
        if container.state == pb.CONTAINER_EXITED or container.removing:
            raise FailedPrecondition(f"container {container.id} has ended: nothing to update")
        change = await cri.plugged.change(container, _checked(cri, request.linux))
        await apply(cri, container, change)
        old = container.resources or container.config.linux.resources
        container.resources = merged(old, kubelets_resources(change))
        await save(cri, container)
    await cri.plugged.changed(container)
    return pb.UpdateContainerResourcesResponse()


def _checked(cri: Cri, wanted: pb.LinuxContainerResources) -> pb.LinuxContainerResources:
    """Return a request without what this node cannot set, as creation leaves it out.

    Raises:
      InvalidArgument: it contradicts itself.
    """
    result = pb.LinuxContainerResources()
    result.CopyFrom(wanted)
    hugepages = not cri.settings.runtime.disable_hugetlb_controller
    resources_of(wanted, hugepages=hugepages)
    if not hugepages:
        del result.hugepage_limits[:]
    if not swap_is_limited():
        result.memory_swap_limit_in_bytes = 0
    return result


async def update_pod(
    cri: Cri, request: pb.UpdatePodSandboxResourcesRequest
) -> pb.UpdatePodSandboxResourcesResponse:
    """Note a pod's resources, and set them on its cgroup when it is ours and not kubelet's.

    Raises:
      NotFound: there is no such pod.
    """
    pod = cri.pod(request.pod_sandbox_id)
    async with pod.lock:
        await cri.plugged.update_pod(pod, request.overhead, request.resources)
        linux = pod.config.linux
        linux.overhead.CopyFrom(merged(linux.overhead, request.overhead))
        linux.resources.CopyFrom(merged(linux.resources, request.resources))
        if pod.ready:
            await to_thread(cri.limit_pod, pod)
        await cri.engine.metadata.sandboxes.update(pod.row(), ["extensions"])
        await cri.plugged.updated_pod(pod)
    return pb.UpdatePodSandboxResourcesResponse()
