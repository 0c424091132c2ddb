"""A value that we carry without looking inside: protobuf's Any, without protobuf."""

from __future__ import annotations

import msgspec

__all__ = ["Opaque"]


class Opaque(msgspec.Struct, frozen=True):
    """A type URL and the encoded value; every type and every byte is kept as it came."""

    type_url: str = ""
    value: bytes = b""
