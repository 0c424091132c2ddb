"""Containers as values and as messages. Spec and extensions pass through byte for byte."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.services.containers.v1 import containers_pb2 as pb
from sampan.metadata import Container, Runtime
from sampan.services.convert import any_from, any_of, any_or_none, opaques_of, timestamp

__all__ = ["container_from", "container_of"]


def container_from(value: Container) -> pb.Container:
    """Return a container as a message."""
    return pb.Container(
        id=value.id,
        labels=dict(value.labels),
        image=value.image,
        runtime=pb.Container.Runtime(
            name=value.runtime.name, options=any_from(value.runtime.options)
        ),
        spec=any_from(value.spec),
        snapshotter=value.snapshotter,
        snapshot_key=value.snapshot_key,
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        extensions={key: any_from(one) or AnyMessage() for key, one in value.extensions.items()},
        sandbox=value.sandbox_id,
    )


def container_of(message: pb.Container) -> Container:
    """Return a container from a message; its times are the caller's and ignored."""
    return Container(
        id=message.id,
        labels=dict(message.labels),
        image=message.image,
        runtime=Runtime(message.runtime.name, any_or_none(message.runtime, "options")),
        spec=any_of(message.spec),
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        extensions=opaques_of(message.extensions),
        sandbox_id=message.sandbox,
    )
