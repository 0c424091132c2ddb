"""The two places of a transfer: what an Any names, and what it says of platforms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from sampan.api.containerd.types.platform_pb2 import Platform as PlatformMessage
from sampan.api.containerd.types.transfer import imagestore_pb2, importexport_pb2, registry_pb2
from sampan.errors import InvalidArgument, Unknown
from sampan.model.platform import Matcher, Platform, default

__all__ = ["Place", "matchers", "place_of"]

Place: TypeAlias = (
    registry_pb2.OCIRegistry
    | imagestore_pb2.ImageStore
    | importexport_pb2.ImageImportStream
    | importexport_pb2.ImageExportStream
)

_TYPES: Final[tuple[type[Place], ...]] = (
    registry_pb2.OCIRegistry,
    imagestore_pb2.ImageStore,
    importexport_pb2.ImageImportStream,
    importexport_pb2.ImageExportStream,
)
_BY_NAME: Final = {kind.DESCRIPTOR.full_name: kind for kind in _TYPES}


def place_of(message: AnyMessage) -> Place:
    """Return the message in an Any; what stands before the last `/` of its type is ignored.

    Raises:
      Unknown: a type that nobody here knows; containerd gives it no better class.
      InvalidArgument: its bytes are not of that type.
    """
    kind = _BY_NAME.get(message.type_url.rpartition("/")[2])
    if kind is None:
        raise Unknown(f"type with url {message.type_url[:200]}: not found")
    try:
        return kind.FromString(message.value)
    except DecodeError as err:
        raise InvalidArgument(f"{message.type_url[:200]}: {err}") from err


def platform_of(message: PlatformMessage) -> Platform:
    """Return a platform; without an architecture it is this host's."""
    if not message.architecture:
        return default()
    return Platform(
        os=message.os,
        architecture=message.architecture,
        variant=message.variant,
        os_version=message.os_version,
        os_features=tuple(message.os_features),
    )


def matchers(messages: Iterable[PlatformMessage]) -> list[Matcher]:
    """Return a matcher for each platform, in order."""
    return [Matcher(platform_of(message)) for message in messages]
