"""UpdateContainerResources, and UpdatePodSandboxResources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.containers.start import save
from sampan.cri.spec.resources import merged, resources_of
from sampan.errors import FailedPrecondition
from sampan.model.opaque import Opaque

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["update", "update_pod"]

_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"


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
        old = (
            container.resources
            if container.resources is not None
            else (container.config.linux.resources)
        )
        new = merged(old, request.linux)
        hugepages = not cri.settings.runtime.disable_hugetlb_controller
        wanted = resources_of(request.linux, hugepages=hugepages)
        if container.running:
            values = wanted.to_json()
            await cri.engine.tasks.update(container.id, Opaque(_TYPE, json.dumps(values).encode()))
        whole = resources_of(new, hugepages=hugepages).to_json()
        spec = json.loads(container.spec)
        spec["linux"]["resources"] = {**whole, "devices": spec["linux"]["resources"]["devices"]}
        container.spec = json.dumps(spec).encode()
        container.resources = new
        await cri.engine.metadata.containers.update(container.row(), ["spec"])
        await save(cri, container)
    return pb.UpdateContainerResourcesResponse()


async def update_pod(
    cri: Cri, request: pb.UpdatePodSandboxResourcesRequest
) -> pb.UpdatePodSandboxResourcesResponse:
    """Note a pod's resources, and set them on its cgroup when it is ours and not kubelet's.

    Raises:
      NotFound: there is no such pod.
    """
    pod = cri.pod(request.pod_sandbox_id)
    async with pod.lock:
        linux = pod.config.linux
        linux.overhead.CopyFrom(merged(linux.overhead, request.overhead))
        linux.resources.CopyFrom(merged(linux.resources, request.resources))
        if pod.ready:
            await to_thread(cri.limit_pod, pod)
        await cri.engine.metadata.sandboxes.update(pod.row(), ["extensions"])
    return pb.UpdatePodSandboxResourcesResponse()
