"""Sandboxes as values and as messages. Spec and extensions pass through byte for byte."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.types.sandbox_pb2 import Sandbox as SandboxMessage
from sampan.metadata import Runtime, Sandbox
from sampan.services.convert import any_from, any_of, any_or_none, opaques_of, timestamp

__all__ = ["sandbox_from", "sandbox_of"]


def sandbox_from(value: Sandbox) -> SandboxMessage:
    """Return a sandbox as a message."""
    return SandboxMessage(
        sandbox_id=value.id,
        runtime=SandboxMessage.Runtime(
            name=value.runtime.name, options=any_from(value.runtime.options)
        ),
        spec=any_from(value.spec),
        labels=dict(value.labels),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        extensions={key: any_from(one) or AnyMessage() for key, one in value.extensions.items()},
        sandboxer=value.sandboxer,
    )


def sandbox_of(message: SandboxMessage) -> Sandbox:
    """Return a sandbox from a message; its times are the caller's and ignored."""
    return Sandbox(
        id=message.sandbox_id,
        runtime=Runtime(message.runtime.name, any_or_none(message.runtime, "options")),
        spec=any_of(message.spec),
        labels=dict(message.labels),
        extensions=opaques_of(message.extensions),
        sandboxer=message.sandboxer,
    )
