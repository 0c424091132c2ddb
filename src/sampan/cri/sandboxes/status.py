"""PodSandboxStatus, ListPodSandbox and their streams."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import NotFound

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Pod

__all__ = ["chosen", "item", "matches", "status", "status_of"]


async def status(cri: Cri, request: pb.PodSandboxStatusRequest) -> pb.PodSandboxStatusResponse:
    """Tell all about one pod.

    Raises:
      NotFound: there is none.
    """
    from sampan.cri.containers.status import status_of as container_status

    pod = cri.find_pod(request.pod_sandbox_id)
    if pod is None:
        raise NotFound(f"sandbox {request.pod_sandbox_id}: not found")
    answer = pb.PodSandboxStatusResponse(status=status_of(pod), timestamp=time.time_ns())
    answer.containers_statuses.extend(
        container_status(cri, one) for one in cri.containers_of(pod.id)
    )
    if request.verbose:
        answer.info["info"] = json.dumps(
            {
                "sandboxID": pod.id,
                "pid": pod.holder_pid,
                "runtimeHandler": pod.handler,
                "runtimeType": "io.containerd.sampan.v2",
                "netns": pod.netns,
                "ips": pod.ips,
                "config": MessageToDict(pod.config, preserving_proto_field_name=True),
            }
        )
    return answer


def state_of(pod: Pod) -> pb.PodSandboxState:
    """Return READY or NOTREADY."""
    return pb.SANDBOX_READY if pod.ready else pb.SANDBOX_NOTREADY


def status_of(pod: Pod) -> pb.PodSandboxStatus:
    """Return a pod's status."""
    answer = pb.PodSandboxStatus(
        id=pod.id,
        metadata=pod.config.metadata,
        state=state_of(pod),
        created_at=pod.created_ns,
        labels=pod.config.labels,
        annotations=pod.config.annotations,
        runtime_handler=pod.handler,
    )
    answer.network.SetInParent()
    if pod.ips:
        answer.network.ip = pod.ips[0]
        answer.network.additional_ips.extend(pb.PodIP(ip=ip) for ip in pod.ips[1:])
    answer.linux.namespaces.options.CopyFrom(pod.namespaces)
    return answer


def item(pod: Pod) -> pb.PodSandbox:
    """Return a pod as lists show it."""
    return pb.PodSandbox(
        id=pod.id,
        metadata=pod.config.metadata,
        state=state_of(pod),
        created_at=pod.created_ns,
        labels=pod.config.labels,
        annotations=pod.config.annotations,
        runtime_handler=pod.handler,
    )


def chosen(cri: Cri, wanted: pb.PodSandboxFilter) -> Iterator[pb.PodSandbox]:
    """Yield the pods that a filter lets through."""
    only = cri.find_pod(wanted.id) if wanted.id else None
    if wanted.id and only is None:
        return
    for pod in [only] if only is not None else list(cri.pods.values()):
        if wanted.HasField("state") and wanted.state.state != state_of(pod):
            continue
        if matches(wanted.label_selector, pod.config.labels):
            yield item(pod)


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether all labels of the selector are there."""
    return all(labels.get(key) == value for key, value in selector.items())
