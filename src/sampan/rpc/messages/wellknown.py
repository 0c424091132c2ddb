"""Google's well-known types, and the messages of ttrpc itself.

Source: google/protobuf/{any,timestamp,empty}.proto, google/rpc/status.proto, ttrpc request.proto.
"""

from __future__ import annotations

from sampan.rpc import wire
from sampan.rpc.wire import Message, byte_string, int32, int64, message, repeated, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _M = TypeVar("_M", bound=Message)

_NS = 1_000_000_000


class Any(Message, name="google.protobuf.Any"):
    """Bytes with the name of their type."""

    type_url: str = string(1)
    value: bytes = byte_string(2)

    @classmethod
    def pack(cls, content: Message) -> Any:
        """Wrap `content` under its bare name, as containerd's typeurl does: no host, no slash."""
        return cls(type_url=content.NAME, value=bytes(content))

    def holds(self, kind: type[Message]) -> bool:
        """Tell whether the content is a `kind`, whatever stands before the last slash."""
        return self.type_url.rpartition("/")[2] == kind.NAME

    def unpack(self, kind: type[_M]) -> _M:
        """Return the content as `kind`, without asking whether it is one.

        Raises:
          DecodeError: it is malformed.
        """
        return kind.decode(self.value)


class Timestamp(Message, name="google.protobuf.Timestamp"):
    """A time in UTC."""

    seconds: int = int64(1)
    nanos: int = int32(2)

    @classmethod
    def of_ns(cls, ns: int) -> Timestamp:
        """Return the time `ns` nanoseconds after 1970."""
        return cls(seconds=ns // _NS, nanos=ns % _NS)

    @property
    def ns(self) -> int:
        """Nanoseconds since 1970."""
        return self.seconds * _NS + self.nanos


class Empty(Message, name="google.protobuf.Empty"):
    """Nothing."""


class Status(Message, name="google.rpc.Status"):
    """A gRPC code and a text."""

    code: int = int32(1)
    message: str = string(2)
    details: list[Any] = wire.repeated(wire.message(3, Any))


class KeyValue(Message, name="ttrpc.KeyValue"):
    """A pair of metadata."""

    key: str = string(1)
    value: str = string(2)


class Request(Message, name="ttrpc.Request"):
    """Payload of a frame of type REQUEST."""

    service: str = string(1)
    method: str = string(2)
    payload: bytes = byte_string(3)
    timeout_nano: int = int64(4)
    """Nanoseconds from now; 0 is no deadline."""
    metadata: list[KeyValue] = repeated(message(5, KeyValue))


class Response(Message, name="ttrpc.Response"):
    """Payload of a frame of type RESPONSE."""

    status: Status | None = message(1, Status)
    payload: bytes = byte_string(2)
