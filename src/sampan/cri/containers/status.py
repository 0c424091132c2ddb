"""ContainerStatus, ListContainers and their streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.containers.signals import signal_enum
from sampan.cri.sandboxes.status import matches
from sampan.cri.store.records import Container

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["chosen", "status", "status_of"]


async def status(cri: Cri, request: pb.ContainerStatusRequest) -> pb.ContainerStatusResponse:
    """Tell all about one container.

    Raises:
      NotFound: there is none.
    """
    container = cri.container(request.container_id)
    answer = pb.ContainerStatusResponse(status=status_of(cri, container))
    if request.verbose:
        answer.info["info"] = json.dumps(
            {
                "sandboxID": container.pod_id,
                "pid": container.pid,
                "removing": container.removing,
                "snapshotKey": container.id,
                "snapshotter": container.snapshotter,
                "runtimeType": container.runtime,
                "config": MessageToDict(container.config, preserving_proto_field_name=True),
                "runtimeSpec": json.loads(container.spec),
            }
        )
    return answer


def status_of(cri: Cri, container: Container) -> pb.ContainerStatus:
    """Return a container's status."""
    config = container.config
    answer = pb.ContainerStatus(
        id=container.id,
        metadata=config.metadata,
        state=container.state,  # type: ignore[arg-type]
        created_at=container.created_ns,
        started_at=container.started_ns,
        finished_at=container.finished_ns,
        exit_code=container.exit_code,
        image_ref=container.image_id,
        image_id=container.image_id,
        reason=container.reason,
        message=container.message,
        labels=config.labels,
        annotations=config.annotations,
        mounts=config.mounts,
        log_path=container.log_path,
        stop_signal=signal_enum(container.stop_signal),
    )
    answer.image.CopyFrom(config.image)
    if not answer.image.user_specified_image:
        answer.image.image = container.image_ref
    resources = container.resources
    if resources is None:
        resources = config.linux.resources
    answer.resources.linux.CopyFrom(resources)
    uid, gid, groups = container.user
    answer.user.linux.uid, answer.user.linux.gid = uid, gid
    answer.user.linux.supplemental_groups.extend(groups)
    return answer


def item(container: Container) -> pb.Container:
    """Return a container as lists show it."""
    config = container.config
    return pb.Container(
        id=container.id,
        pod_sandbox_id=container.pod_id,
        metadata=config.metadata,
        image=config.image,
        image_ref=container.image_id,
        image_id=container.image_id,
        state=container.state,  # type: ignore[arg-type]
        created_at=container.created_ns,
        labels=config.labels,
        annotations=config.annotations,
    )


def chosen(cri: Cri, wanted: pb.ContainerFilter) -> Iterator[pb.Container]:
    """Yield the containers that a filter lets through."""
    only = cri.find_container(wanted.id) if wanted.id else None
    pod = cri.find_pod(wanted.pod_sandbox_id) if wanted.pod_sandbox_id else None
    if (wanted.id and only is None) or (wanted.pod_sandbox_id and pod is None):
        return
    for one in [only] if only is not None else list(cri.containers.values()):
        if wanted.HasField("state") and wanted.state.state != one.state:
            continue
        if pod is not None and one.pod_id != pod.id:
            continue
        if matches(wanted.label_selector, one.config.labels):
            yield item(one)
