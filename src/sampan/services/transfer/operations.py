"""The operations of a transfer, each between two places of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from sampan.api.containerd.types.transfer.imagestore_pb2 import ImageStore
from sampan.api.containerd.types.transfer.importexport_pb2 import (
    ImageExportStream,
    ImageImportStream,
)
from sampan.api.containerd.types.transfer.registry_pb2 import DISABLED, OCIRegistry
from sampan.concurrency import shielded, to_thread
from sampan.distribution import Fetcher, Pusher, Resolver, archive
from sampan.distribution.registry.credentials import CredentialSource
from sampan.distribution.transfer import Limits, Selection, Stores, Transfer, Unpacker
from sampan.distribution.transfer.children import gc_labels, ref_key
from sampan.distribution.transfer.download import Flights, first_error
from sampan.distribution.transfer.unpacking import SnapshotUnpacker, unpack_present
from sampan.errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from sampan.metadata import Image, Metadata
from sampan.model import digest as digests
from sampan.model import reference as references
from sampan.model.descriptor import MANIFEST_TYPES, OCI_INDEX, Descriptor
from sampan.model.image import CONFIG_MAX, Index, Manifest, decode, decode_config
from sampan.model.platform import Matcher, Platform, default
from sampan.model.reference import Reference
from sampan.services.streaming.flow import Sink, Source
from sampan.services.streaming.registry import Streams
from sampan.services.transfer.naming import named, records
from sampan.services.transfer.places import matchers, platform_of
from sampan.services.transfer.progress import Reporter
from sampan.services.transfer.registries import Lines, client_for
from sampan.storage.workers import Runner

__all__ = ["Operations", "Policy"]

T = TypeVar("T")

_CLOSE_S: Final = 10.0
_ECHO_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Policy:
    """What the daemon's configuration says of transfers."""

    hosts_dir: Path | Callable[[], Path]
    """certs.d, for requests that name no folder of their own; asked each time, if it may change."""
    snapshotter: str = "overlayfs"
    """For unpacks that name none."""
    limits: Limits = field(default_factory=Limits)
    environ: Mapping[str, str] = field(default_factory=dict)
    """For proxies."""
    verify: Callable[[str, Descriptor], Awaitable[None]] | None = None
    """Refuses an image, by raising, before it is fetched."""
    credentials: CredentialSource | None = None
    """For requests without credentials of their own; None is nobody's."""


class Operations:
    """See the table in this package's `__init__`; one object for all requests."""

    def __init__(
        self, metadata: Metadata, streams: Streams, runner: Runner, policy: Policy
    ) -> None:
        self._metadata = metadata
        self._streams = streams
        self._runner = runner
        self._policy = policy
        self._flights = Flights()

    async def pull(self, source: OCIRegistry, store: ImageStore, report: Reporter) -> None:
        """Fetch an image and record it.

        Raises:
          InvalidArgument: the reference, or a snapshotter, is none.
          SampanError: as `distribution.transfer.Transfer.fetch`.
        """
        reference = references.parse(source.reference)
        what = f"OCI Registry ({source.reference})"
        report.root = source.reference
        report.say(f"Resolving from {what}")

        async def resolved(target: Descriptor) -> None:
            if self._policy.verify is not None:
                await self._policy.verify(source.reference, target)
            report.say(f"Pulling from {what}")
            report.say("fetching image content", source.reference, target)

        selection = Selection(
            platforms=matchers(store.platforms),
            limit=store.manifest_limit,
            all_metadata=store.all_metadata,
            unpacks=self._unpacks(store),
        )
        async with self._registry(source) as resolver:
            transfer = self._transfer(resolver)
            async with transfer.lease():
                target = await transfer.fetch(
                    reference, selection, resolved=resolved, progress=report.tell
                )
                images = records(store, target)
                if not images:
                    raise NotFound("no image name found: not found")
                for image in images:
                    await self._save(image, report)
        report.say(f"Completed pull from {what}")

    async def push(self, store: ImageStore, place: OCIRegistry, report: Reporter) -> None:
        """Push an image.

        Raises:
          NotFound: no such image, or content of it is missing.
          SampanError: as `distribution.transfer.Transfer.push`.
        """
        reference = references.parse(place.reference)
        what = f"OCI Registry ({place.reference})"
        image = await self._metadata.images.get(store.name)
        report.root = image.name
        report.say(f"Pushing to {what}")
        report.say("pushing content", image.name, image.target)
        platforms = matchers(store.platforms)
        async with self._registry(place) as resolver:
            await self._transfer(resolver).push(
                image.name,
                reference,
                platform=platforms[0] if platforms else None,
                progress=report.tell,
            )
        report.say("pushed content", image.name, image.target)
        report.say(f"Completed push to {what}", "", image.target)

    async def tag(self, source: ImageStore, store: ImageStore, report: Reporter) -> None:
        """Record an image under other names, too."""
        del report
        image = await self._metadata.images.get(source.name)
        images = records(store, image.target)
        if not images:
            raise NotFound("no image name found: not found")
        for one in images:
            await self._metadata.images.put(one)

    async def import_(self, place: ImageImportStream, store: ImageStore, report: Reporter) -> None:
        """Take in an archive; its index and each of its images get the names that fit.

        Raises:
          InvalidArgument: no archive of images.
          SampanError: as `distribution.archive.load_all`.
        """
        report.say("Importing")
        content = self._metadata.content
        source = Source(self._streams.get(place.stream))
        transfer = self._transfer(_NoRegistry())
        async with transfer.lease():
            loaded = await _beside(source.pump(), archive.load_all(content, source))
            index = await self._index(loaded.index, loaded.images)
            wanted = matchers(store.platforms)
            for found in loaded.images:
                await self._unpack(found.target, wanted, store, report)
            for image in records(store, index):
                await self._save(image, report)
            for found in loaded.images:
                for image in named(store, found.target, found.annotations):
                    await self._save(image, report)
        report.say("Completed import")

    async def export(self, store: ImageStore, place: ImageExportStream, report: Reporter) -> None:
        """Send images as an archive.

        Raises:
          NotFound: no such image, or content of it is missing.
          Canceled: the client closed its stream.
        """
        report.say("Exporting")
        if any(one.is_prefix for one in store.extra_references):
            raise Unimplemented("prefix lookup on export not implemented")
        names = [*filter(None, [store.name]), *(one.name for one in store.extra_references)]
        images = [(name, (await self._metadata.images.get(name)).target) for name in names]
        stream = self._streams.get(place.stream)
        sink = Sink(stream)
        wanted = matchers(place.platforms)
        saving = archive.save(
            self._metadata.content,
            images,
            sink,
            docker=not place.skip_compatibility_manifest,
            platform=wanted[0] if wanted else None,
            only_platform=not place.all_platforms,
            foreign=not place.skip_non_distributable,
        )
        try:
            await _beside(sink.pump(), saving)
        finally:
            stream.close()
        report.say("Completed export")

    async def echo(
        self, place: ImageImportStream, back: ImageExportStream, report: Reporter
    ) -> None:
        """Send the bytes of one stream over another."""
        del report
        stream = self._streams.get(back.stream)
        source, sink = Source(self._streams.get(place.stream)), Sink(stream)

        async def copy() -> None:
            while data := await to_thread(source.read, _ECHO_BYTES):
                await sink.send(data)

        try:
            await _beside(source.pump(), _beside(sink.pump(), copy()))
        finally:
            stream.close()

    # --- the rooms below -----------------------------------------------------------------

    @asynccontextmanager
    async def _registry(self, place: OCIRegistry) -> AsyncIterator[Resolver]:
        resolver = place.resolver
        asks = self._streams.get(resolver.auth_stream) if resolver.auth_stream else None
        lines = None
        if resolver.http_debug != DISABLED and resolver.logs_stream:
            lines = Lines(self._streams.get(resolver.logs_stream))
        folder = self._policy.hosts_dir
        client = client_for(
            place,
            hosts_dir=folder() if callable(folder) else folder,
            environ=self._policy.environ,
            credentials=asks,
            fallback=self._policy.credentials,
            lines=lines,
        )
        try:
            yield client
        finally:
            if asks is not None:
                asks.close()
            await shielded(_CLOSE_S, client.close())
            if lines is not None:
                await shielded(_CLOSE_S, lines.close())

    def _transfer(self, resolver: Resolver) -> Transfer:
        metadata = self._metadata
        return Transfer(
            Stores(metadata.content, metadata.images, metadata.leases),
            resolver,
            limits=self._policy.limits,
            flights=self._flights,
        )

    def _unpacks(self, store: ImageStore) -> list[tuple[Matcher, Unpacker]]:
        return [
            (
                Matcher(platform_of(one.platform) if one.HasField("platform") else default()),
                self._unpacker(one.snapshotter),
            )
            for one in store.unpacks
        ]

    def _unpacker(self, snapshotter: str) -> SnapshotUnpacker:
        name = snapshotter or self._policy.snapshotter
        try:
            snapshots = self._metadata.snapshotter(name)
        except NotFound as err:
            raise InvalidArgument(f"snapshotter not loaded: {name}") from err
        return SnapshotUnpacker(name, snapshots, self._metadata.content, self._runner)

    async def _save(self, image: Image, report: Reporter) -> None:
        made = await self._metadata.images.put(image)
        report.say("saved", made.name, made.target)

    async def _index(self, data: bytes, images: Sequence[archive.Found]) -> Descriptor:
        """Keep the index of an archive as a blob of its own."""
        content = self._metadata.content
        index = Descriptor(media_type=OCI_INDEX, digest=digests.of_bytes(data), size=len(data))
        manifests = tuple(found.target for found in images)
        labels = gc_labels(Index(schema_version=2, manifests=manifests))
        try:
            writer = await content.writer(ref_key(index), expected=index.digest, total=len(data))
        except AlreadyExists:
            return index
        async with writer:
            await writer.truncate(0)
            await writer.write(data)
            await writer.commit(len(data), index.digest, labels=labels)
        return index

    async def _unpack(
        self, target: Descriptor, wanted: Sequence[Matcher], store: ImageStore, report: Reporter
    ) -> None:
        """Unpack an imported image, or those of an index that are here and wanted."""
        if not store.unpacks:
            return
        content = self._metadata.content
        for descriptor, manifest in await self._manifests(target):
            if descriptor.media_type not in MANIFEST_TYPES or not manifest.is_image:
                continue
            platform = descriptor.platform or await self._platform(manifest)
            if wanted and not any(one.match(platform) for one in wanted):
                continue
            for matcher, unpacker in self._unpacks(store):
                if matcher.match(platform):
                    await unpack_present(content, manifest, unpacker, report.tell)

    async def _manifests(self, target: Descriptor) -> list[tuple[Descriptor, Manifest]]:
        try:
            async with await self._metadata.content.reader(target.digest) as reader:
                document = decode(await reader.read_at(0, reader.size), target.media_type)
        except NotFound:
            return []
        if isinstance(document, Manifest):
            return [(target, document)]
        return [found for child in document.manifests for found in await self._manifests(child)]

    async def _platform(self, manifest: Manifest) -> Platform:
        async with await self._metadata.content.reader(manifest.config.digest) as reader:
            return decode_config(await reader.read_at(0, CONFIG_MAX + 1)).platform


class _NoRegistry:
    """For transfers without a registry."""

    async def resolve(self, reference: Reference) -> Descriptor:
        raise Unimplemented(f"{reference}: this transfer has no registry")

    async def fetcher(self, reference: Reference) -> Fetcher:
        raise Unimplemented(f"{reference}: this transfer has no registry")

    async def pusher(self, reference: Reference) -> Pusher:
        raise Unimplemented(f"{reference}: this transfer has no registry")


async def _beside(pump: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, while `pump` feeds it.

    Cancelled, both are: the pump's end is what frees a thread of `work` that waits for data.
    """
    try:
        async with asyncio.TaskGroup() as group:
            pumping = group.create_task(pump)
            working = group.create_task(work)
            await asyncio.wait({working})
            pumping.cancel()
    except BaseExceptionGroup as several:
        raise first_error(several) from None
    return working.result()
