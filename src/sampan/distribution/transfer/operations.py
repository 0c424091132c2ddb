"""The front of transfers: one object, one method an operation, one lease each."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sampan import context
from sampan.concurrency import shielded
from sampan.distribution import ProgressSink, Resolver, archive
from sampan.distribution.archive import Found, Readable, Writable
from sampan.distribution.transfer import Limits, Selection, Stores, Unpacker
from sampan.distribution.transfer.download import Flights
from sampan.distribution.transfer.pull import Pull
from sampan.distribution.transfer.push import Push
from sampan.metadata import Image
from sampan.model.descriptor import Descriptor
from sampan.model.platform import Matcher, default
from sampan.model.reference import Reference

__all__ = ["Transfer"]

_LEASE_LIFE = timedelta(hours=24)
_EXPIRE = "containerd.io/gc.expire"
_CLEANUP_S = 10.0


class Transfer:
    """Moves images; holds no state but the downloads in flight."""

    def __init__(
        self,
        stores: Stores,
        resolver: Resolver,
        *,
        unpacker: Unpacker | None = None,
        limits: Limits | None = None,
        flights: Flights | None = None,
    ) -> None:
        """Work on `stores`.

        Args:
          stores: Content, images and leases.
          resolver: The registries.
          unpacker: Where `pull(unpack=True)` unpacks to; None never unpacks.
          limits: How much at once.
          flights: Shared by all transfers on the same content store.
        """
        self._stores = stores
        self._resolver = resolver
        self._unpacker = unpacker
        self._limits = limits or Limits()
        self._flights = flights or Flights()

    async def pull(
        self,
        reference: Reference,
        *,
        platform: Matcher | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        name: str = "",
        progress: ProgressSink | None = None,
    ) -> Image:
        """Fetch an image, unpack it, and record it under its reference.

        Args:
          reference: What to pull.
          platform: Which of an index; None is this host's.
          all_platforms: Fetch every platform's image; that of `platform` is unpacked.
          unpack: Whether to unpack.
          name: The record's name; empty is the reference.
          progress: Told what happens.

        Raises:
          NotFound: no such image, or none for the platform.
          SampanError: as the registry and the stores say. Blobs that are complete stay until the
            next collection, interrupted ones may be resumed; there is no image record.
        """
        matcher = platform or Matcher(default())
        unpacker = self._unpacker if unpack else None
        selection = Selection(
            platforms=() if all_platforms else (matcher,),
            limit=0 if all_platforms else 1,
            unpacks=((matcher if all_platforms else None, unpacker),) if unpacker else (),
        )
        async with self.lease():
            target = await self.fetch(reference, selection, progress=progress)
            return await self.record(name or str(reference), target)

    async def fetch(
        self,
        reference: Reference,
        selection: Selection,
        *,
        resolved: Callable[[Descriptor], Awaitable[None]] | None = None,
        progress: ProgressSink | None = None,
    ) -> Descriptor:
        """Fetch and unpack what `selection` says, under the caller's lease; record nothing.

        Args:
          reference: What to fetch.
          selection: Which images of an index.
          resolved: Called with the root before anything is fetched; may refuse it by raising.
          progress: Told what happens.

        Raises:
          SampanError: as `pull`.
        """
        operation = Pull(
            self._stores.content,
            self._resolver,
            self._flights,
            self._limits,
            selection=selection,
            progress=progress,
        )
        return await operation.run(reference, resolved)

    async def push(
        self,
        name: str,
        reference: Reference | None = None,
        *,
        platform: Matcher | None = None,
        progress: ProgressSink | None = None,
    ) -> Descriptor:
        """Push the image `name` to `reference`, or to where its name says.

        Args:
          name: Of the image record.
          reference: Where to; None is the name itself.
          platform: Push only that platform's manifest of an index; None is all that is complete.
          progress: Told what happens.

        Raises:
          NotFound: no such image, or content of it is missing here.
          SampanError: as the registry says.
        """
        from sampan.model.reference import parse

        image = await self._stores.images.get(name)
        async with self.lease():
            operation = Push(self._stores.content, self._resolver, self._limits, platform, progress)
            return await operation.run(image.target, reference or parse(name))

    async def tag(self, name: str, new_name: str) -> Image:
        """Record the image `name` under `new_name`, too; what was there before loses the name."""
        image = await self._stores.images.get(name)
        return await self.record(new_name, image.target)

    async def load(self, source: Path | Readable) -> list[Found]:
        """Import an archive or layout, and record each image that it names; see `archive.load`.

        Images without a name are returned, too, for the caller to record.
        """
        async with self.lease():
            found = await archive.load(self._stores.content, source)
            for image in found:
                if image.name:
                    await self.record(image.name, image.target)
            return found

    async def save(
        self,
        names: Sequence[str],
        sink: Path | Writable,
        *,
        docker: bool = True,
        platform: Matcher | None = None,
    ) -> None:
        """Export images to an archive or a layout folder; see `archive.save`."""
        images = [(name, (await self._stores.images.get(name)).target) for name in names]
        async with self.lease():
            await archive.save(self._stores.content, images, sink, docker=docker, platform=platform)

    async def record(self, name: str, target: Descriptor) -> Image:
        """Create or replace the image record `name`."""
        return await self._stores.images.put(Image(name=name, target=target))

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Let everything inside belong to one lease: the request's, or one made for the block."""
        leases = self._stores.leases
        if leases is None or context.lease():
            yield
            return
        expires = datetime.now(UTC) + _LEASE_LIFE
        made = await leases.create(
            f"transfer-{secrets.token_hex(8)}", {_EXPIRE: expires.isoformat(timespec="seconds")}
        )
        try:
            with context.scope(lease=made.id):
                yield
        finally:
            await shielded(_CLEANUP_S, leases.delete(made.id))
