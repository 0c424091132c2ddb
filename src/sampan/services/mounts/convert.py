"""Activations as values and as messages."""

from __future__ import annotations

from sampan.api.containerd.types import mount_pb2 as pb
from sampan.model.mounts import Mount
from sampan.runtime.mounting import Activation, ActiveMount
from sampan.services.convert import mounts_from, mounts_of, timestamp_ns

__all__ = ["activation_from", "activation_of"]

_NS = 1_000_000_000


def activation_from(value: Activation) -> pb.ActivationInfo:
    """Return an activation as a message."""
    return pb.ActivationInfo(
        name=value.name,
        active=[_active(one) for one in value.active],
        system=mounts_from(value.system),
        labels=dict(value.labels),
    )


def _active(value: ActiveMount) -> pb.ActiveMount:
    return pb.ActiveMount(
        mount=mounts_from([value.mount])[0],
        mounted_at=timestamp_ns(value.mounted_at_ns),
        mount_point=value.mount_point,
    )


def activation_of(message: pb.ActivationInfo) -> Activation:
    """Return an activation from a message."""
    return Activation(
        message.name,
        [
            ActiveMount(
                mounts_of([one.mount])[0] if one.HasField("mount") else Mount("", ""),
                one.mount_point,
                one.mounted_at.seconds * _NS + one.mounted_at.nanos,
            )
            for one in message.active
        ],
        mounts_of(message.system),
        dict(message.labels),
    )
