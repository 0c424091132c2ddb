"""Events of the exchange, which are plain values, as the protobuf messages they stand for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from google.protobuf import symbol_database
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from sampan.api.containerd.types.event_pb2 import Envelope as EnvelopeMessage
from sampan.events import Envelope, Event, Opaque
from sampan.services.convert import any_from, any_of, timestamp, timestamp_ns

__all__ = ["any_of_event", "envelope_from", "envelope_of"]

_MODULES: Final = ("container", "content", "image", "namespace", "sandbox", "snapshot", "task")


def any_of_event(event: Event | Opaque) -> AnyMessage:
    """Return an event as Any; its type URL is the bare message name, as containerd's are."""
    if isinstance(event, Opaque):
        return any_from(event) or AnyMessage()
    message = _message_class(event.name)()
    _fill(message, event.fields)
    return AnyMessage(type_url=event.name, value=message.SerializeToString())


def envelope_from(envelope: Envelope) -> EnvelopeMessage:
    """Return an envelope as a message."""
    return EnvelopeMessage(
        timestamp=timestamp_ns(envelope.timestamp_ns),
        namespace=envelope.namespace,
        topic=envelope.topic,
        event=any_of_event(envelope.event),
    )


def envelope_of(message: EnvelopeMessage) -> Envelope:
    """Return an envelope from a message; its event stays encoded."""
    when = message.timestamp
    return Envelope(
        when.seconds * 1_000_000_000 + when.nanos,
        message.namespace,
        message.topic,
        any_of(message.event),
    )


def _message_class(name: str) -> type[Message]:
    for module in _MODULES:
        importlib.import_module(f"sampan.api.containerd.events.{module}_pb2")
    found: type[Message] = symbol_database.Default().GetSymbol(name)
    return found


def _fill(message: Any, fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        if value is None:
            continue
        target = getattr(message, name)
        if isinstance(value, Opaque):
            target.CopyFrom(AnyMessage(type_url=value.type_url, value=value.value))
        elif isinstance(value, datetime):
            target.CopyFrom(timestamp(value))
        elif isinstance(value, Mapping):
            _fill_mapping(target, value)
        elif isinstance(value, (list, tuple)):
            for one in value:
                if isinstance(one, Mapping):
                    _fill(target.add(), one)
                else:
                    target.append(one)
        elif isinstance(target, Message):
            target.CopyFrom(timestamp_ns(value))  # type: ignore[arg-type]
        else:
            setattr(message, name, value)


def _fill_mapping(target: Any, value: Mapping[Any, Any]) -> None:
    if isinstance(target, Message):
        _fill(target, value)
    else:
        target.update(value)
