"""Transfers: pull, push, tag, import and export, each between what the caller hands over.

    transfer = Transfer(Stores(content, images, leases), resolver, unpacker=unpacker)
    image = await transfer.pull(parse("redis:7"), progress=show)
    await transfer.push(image.name, parse("registry.example/redis:7"))
    await transfer.save([image.name], sink)

        resolve ─► index ─► manifest ─► config + layers, three at a time ─► image record
                     by platform                │
                                                └► unpacker.ready(layer), so that it can begin

Everything that is written belongs to one lease, made here unless the request has one, and deleted
at the end: what became an image stays by its labels, what did not is garbage.

- A blob is fetched once, however many pulls want it: in this process by `Flights`, among processes
  by the content store's lock on the ref (`layer-<digest>`, containerd's names).
- An interrupted fetch leaves its ingest; the next one goes on there, by a range request. An ingest
  whose bytes turn out wrong is dropped, with an error that names blob and host.
- Labels are containerd's: `containerd.io/gc.ref.content.{m.N,config,l.N}` on documents, for all
  children, fetched or not, and `containerd.io/distribution.source.<host>` on blobs, without port.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sampan.distribution import ProgressSink
    from sampan.distribution.transfer.operations import Transfer
    from sampan.metadata import Image, Lease
    from sampan.model.descriptor import Descriptor
    from sampan.model.digest import Digest
    from sampan.model.platform import Matcher
    from sampan.storage.content import Store

__all__ = ["Images", "Leases", "Limits", "Selection", "Stores", "Transfer", "Unpacker"]


class Images(Protocol):
    """The part of metadata's image store that transfers need."""

    async def get(self, name: str) -> Image: ...

    async def put(self, image: Image) -> Image: ...


class Leases(Protocol):
    """The part of metadata's lease store that transfers need."""

    async def create(self, id: str, labels: Mapping[str, str], /) -> Lease: ...

    async def delete(self, id: str, /) -> None: ...


class Unpacker(Protocol):
    """Turns layers into a chain of snapshots while they arrive."""

    @property
    def snapshotter(self) -> str:
        """The snapshotter's name, as labels that refer to its snapshots have it."""
        ...

    async def __call__(
        self,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        ready: Callable[[int], Awaitable[None]],
        progress: ProgressSink | None,
    ) -> str:
        """Unpack all layers and return the chain id.

        Args:
          layers: Bottom first.
          diff_ids: What each must be, uncompressed.
          ready: Await `ready(n)` before reading layer n from the content store.
          progress: Told of `extracting` and `extracted`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """Where images are kept; namespaced views, or a client's proxies."""

    content: Store
    images: Images
    leases: Leases | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, for each transfer."""

    downloads: int = 3
    """Layers at a time."""
    uploads: int = 3
    ranges: int = 3
    """Connections for one large blob."""
    range_bytes: int = 16 << 20
    """Size of one range; at most `ranges` of them are in memory for each download."""
    large_bytes: int = 128 << 20
    """From this size on a blob is fetched by ranges; 0 is never."""
    attempts: int = 5
    """Tries of a download in a row that bring no byte."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images of an index are fetched, and which of those are unpacked."""

    platforms: Sequence[Matcher] = ()
    """Images that any of these takes; none is all images."""
    limit: int = 0
    """Only so many, the best first; 0 is as many as there are."""
    all_metadata: bool = False
    """Fetch manifest and config of the others, too."""
    unpacks: Sequence[tuple[Matcher | None, Unpacker]] = ()
    """Each image is unpacked by every unpacker whose platform it has; None is any platform."""


def __getattr__(name: str) -> object:
    if name != "Transfer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = import_module(f"{__name__}.operations").Transfer
    globals()[name] = value
    return value
