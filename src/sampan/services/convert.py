"""Translations that several services share: times, Any, descriptors, mounts, field masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.containerd.types.descriptor_pb2 import Descriptor as DescriptorMessage
from sampan.api.containerd.types.mount_pb2 import Mount as MountMessage
from sampan.model import digest as digests
from sampan.model.descriptor import Descriptor
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque

__all__ = [
    "any_from",
    "any_of",
    "any_or_none",
    "descriptor_from",
    "descriptor_of",
    "mask_of",
    "mounts_from",
    "mounts_of",
    "timestamp",
    "timestamp_ns",
]

_NS = 1_000_000_000


def timestamp(when: datetime | None) -> Timestamp | None:
    """Return a moment as a message; None stays None, an unset field."""
    if when is None:
        return None
    message = Timestamp()
    message.FromDatetime(when.astimezone(UTC).replace(tzinfo=None))
    return message


def timestamp_ns(nanoseconds: int) -> Timestamp:
    """Return nanoseconds since the epoch as a message."""
    return Timestamp(seconds=nanoseconds // _NS, nanos=nanoseconds % _NS)


def any_from(value: Opaque | None) -> AnyMessage | None:
    """Return an Any with the same type URL and bytes; None stays None."""
    if value is None or not (value.type_url or value.value):
        return None
    return AnyMessage(type_url=value.type_url, value=value.value)


def any_of(message: AnyMessage) -> Opaque:
    """Return what an Any holds; an unset one is empty."""
    return Opaque(message.type_url, message.value)


def any_or_none(message: Any, field: str) -> Opaque | None:
    """Return the Any in `message.field`, or None where the field is unset."""
    return any_of(getattr(message, field)) if message.HasField(field) else None


def descriptor_from(value: Descriptor) -> DescriptorMessage:
    """Return a descriptor as a message: what containerd keeps of it."""
    return DescriptorMessage(
        media_type=value.media_type,
        digest=value.digest,
        size=value.size,
        annotations=dict(value.annotations or {}),
    )


def descriptor_of(message: DescriptorMessage) -> Descriptor:
    """Return a descriptor from a message.

    Raises:
      InvalidArgument: the digest is malformed.
    """
    return Descriptor(
        media_type=message.media_type,
        digest=digests.parse(message.digest),
        size=message.size,
        annotations=dict(message.annotations),
    )


def mounts_from(mounts: Iterable[Mount]) -> list[MountMessage]:
    """Return mounts as messages, in order."""
    return [
        MountMessage(type=m.type, source=m.source, target=m.target, options=m.options)
        for m in mounts
    ]


def mounts_of(messages: Iterable[MountMessage]) -> list[Mount]:
    """Return mounts from messages, in order."""
    return [Mount(m.type, m.source, m.target, tuple(m.options)) for m in messages]


def mask_of(message: Any, field: str = "update_mask") -> tuple[str, ...]:
    """Return the paths of a field mask; empty where it is unset."""
    return tuple(getattr(message, field).paths) if message.HasField(field) else ()


def opaques_of(messages: Mapping[str, AnyMessage]) -> dict[str, Opaque]:
    """Return a map of Any, such as a container's extensions."""
    return {key: any_of(value) for key, value in messages.items()}
