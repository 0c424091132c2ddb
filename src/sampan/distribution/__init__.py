"""Distribution: images between registries, archives, this host's files, and our stores.

    registry/    one client for all registries: resolve a name, fetch and push blobs
    archive/     images in files: OCI layouts (folder or tar), docker save archives
    transfer/    the operations: pull, push, tag, import, export; each under one lease
    from_host/   an image made of programs that are installed here

A *reference* names something in a registry; a *descriptor* (type, digest, size) names it for good.
The registry is asked for the first, and everything after is checked against the second:

    async with RegistryClient(options) as registry:
        descriptor = await registry.resolve(reference)               # a HEAD
        fetcher = await registry.fetcher(reference)
        async with fetcher.fetch(descriptor, offset) as stream:
            async for chunk in stream: ...                           # size and digest: the caller

A `Fetcher` promises only to send the bytes from where it says (`Stream.offset`); whoever stores
them verifies. A `Pusher` is given bytes that are verified already.

Nothing from outside is policy here: labels, URLs and annotations in documents are carried, not
obeyed. The rooms below are handed to the operations as Protocols (`storage.content.Store`,
`storage.snapshots.Snapshotter`, `metadata`'s images and leases), so everything works the same on
the engine's own stores and on a client's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sampan.distribution.registry.client import RegistryClient, RegistryOptions
    from sampan.model.descriptor import Descriptor
    from sampan.model.reference import Reference

__all__ = [
    "Fetcher",
    "Progress",
    "ProgressSink",
    "Pusher",
    "RegistryClient",
    "RegistryOptions",
    "Resolver",
    "Stream",
]


@dataclass(frozen=True, slots=True)
class Progress:
    """Something happened to one thing in a transfer; data for a progress bar or a log line.

    Events are words of containerd's Transfer service: `waiting`, `downloading`, `complete`,
    `exists`, `extracting`, `extracted`, `uploading`, `uploaded`, `mounted`, `saved`, `done`.
    """

    event: str
    name: str
    """A digest or a reference."""
    what: str = ""
    """`index`, `manifest`, `config`, `layer`, or empty for the transfer as a whole."""
    done: int = 0
    """Bytes so far."""
    total: int = 0
    """Bytes in the end; 0 when unknown."""
    parents: tuple[str, ...] = ()
    """Digests of what refers to it."""
    descriptor: Descriptor | None = None
    """Of the blob, where it is one."""


ProgressSink = Callable[[Progress], None]
"""Called in the event loop; must return at once and not raise."""


class Stream(Protocol):
    """Bytes on their way."""

    @property
    def offset(self) -> int:
        """Where in the blob the first byte belongs: at most what was asked for."""
        ...

    @property
    def host(self) -> str:
        """Where it comes from; for messages."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Fetcher(Protocol):
    """Gets blobs and manifests of one repository."""

    @property
    def hosts(self) -> str:
        """Whom it asks; for messages."""
        ...

    def fetch(
        self, descriptor: Descriptor, offset: int = 0, length: int = -1
    ) -> AbstractAsyncContextManager[Stream]:
        """Open what `descriptor` names, `length` bytes from `offset` (-1: to its end).

        Raises:
          NotFound: no host has it.
          DataLoss: what the host announces is not what the descriptor says.
          SampanError: as the host answered.
        """
        ...


class Pusher(Protocol):
    """Puts blobs and manifests into one repository."""

    async def push_blob(
        self,
        descriptor: Descriptor,
        open: Callable[[], AsyncIterator[bytes]],
        *,
        mount_from: Sequence[str] = (),
        progress: Callable[[int], None] | None = None,
    ) -> str:
        """Make the repository have a blob; return `exists`, `mounted` or `uploaded`.

        Args:
          descriptor: The blob.
          open: Makes a fresh stream of its bytes, for each attempt.
          mount_from: Repositories of the same registry that may have it.
          progress: Called with the bytes sent so far.
        """
        ...

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str = "") -> str:
        """Put an index or manifest by digest, or at `tag`; return `exists` or `uploaded`."""
        ...


class Resolver(Protocol):
    """Knows registries."""

    async def resolve(self, reference: Reference) -> Descriptor:
        """Return what a reference names now.

        Raises:
          NotFound: nothing.
        """
        ...

    async def fetcher(self, reference: Reference) -> Fetcher: ...

    async def pusher(self, reference: Reference) -> Pusher: ...


_HOME = {"RegistryClient": "registry.client", "RegistryOptions": "registry.client"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
