"""Digests name content: `<algorithm>:<lower-case hex>`, checked once at the edge and trusted after.

    digest = parse("sha256:" + 64 * "0")     # from outside
    digest = of_bytes(manifest)              # of what we hold
    running = hasher(digest)                 # to check a stream

Source: image-spec descriptor.md#digests.
"""

from __future__ import annotations

import hashlib
from typing import Final, NewType, Protocol

from sampan.errors import InvalidArgument

__all__ = ["ALGORITHMS", "Digest", "Hash", "algorithm", "encoded", "hasher", "of_bytes", "parse"]

Digest = NewType("Digest", str)

ALGORITHMS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
"""Length in hex digits of each algorithm we verify; others are refused, as they prove nothing."""

_HEX: Final = frozenset("0123456789abcdef")


class Hash(Protocol):
    """What hashlib's objects can do, as far as we use them."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Hash: ...


def parse(text: str) -> Digest:
    """Return `text` as a digest.

    Raises:
      InvalidArgument: unknown algorithm, wrong length, or other than lower-case hex.
    """
    name, colon, hexdigits = text.partition(":")
    length = ALGORITHMS.get(name)
    if not colon or length is None:
        raise InvalidArgument(
            f"digest {text[:160]!r}: must be one of {'/'.join(ALGORITHMS)}, a colon and hex digits"
        )
    if len(hexdigits) != length or not _HEX.issuperset(hexdigits):
        raise InvalidArgument(f"digest {text[:160]!r}: {name} needs {length} lower-case hex digits")
    return Digest(text)


def of_bytes(data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
    """Return the digest of `data`."""
    running = hasher(algorithm)
    running.update(data)
    return Digest(f"{algorithm}:{running.hexdigest()}")


def hasher(digest_or_algorithm: str = "sha256") -> Hash:
    """Return a fresh hash object for an algorithm, or for the algorithm of a digest.

    Raises:
      InvalidArgument: the algorithm is not one of ALGORITHMS.
    """
    name = digest_or_algorithm.partition(":")[0]
    if name not in ALGORITHMS:
        raise InvalidArgument(f"digest algorithm {name[:40]!r}: not one of {'/'.join(ALGORITHMS)}")
    return hashlib.new(name, usedforsecurity=True)


def algorithm(digest: Digest) -> str:
    """Return the part before the colon."""
    return digest.partition(":")[0]


def encoded(digest: Digest) -> str:
    """Return the hex digits."""
    return digest.partition(":")[2]
