"""Pull: from a reference to a descriptor whose whole tree, for the platforms asked, is here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from sampan.distribution import Fetcher, Progress, ProgressSink, Resolver
from sampan.distribution.transfer import Limits, Selection, Unpacker
from sampan.distribution.transfer.children import (
    gc_labels,
    kind,
    read_document,
    select,
    source_label,
)
from sampan.distribution.transfer.download import Downloader, Flights, first_error
from sampan.errors import DataLoss, InvalidArgument, ResourceExhausted, SampanError
from sampan.model.descriptor import MANIFEST_TYPES, Descriptor, is_foreign, is_layer
from sampan.model.digest import Digest
from sampan.model.image import CONFIG_MAX, ImageConfig, Index, Manifest, decode_config
from sampan.model.reference import Reference
from sampan.storage.content import Store

__all__ = ["Pull"]

log = logging.getLogger(__name__)

_CHILDREN_MAX = 1000


class Pull:
    """One pull; make a new one for the next."""

    def __init__(
        self,
        content: Store,
        resolver: Resolver,
        flights: Flights,
        limits: Limits,
        *,
        selection: Selection,
        progress: ProgressSink | None,
    ) -> None:
        self._content = content
        self._resolver = resolver
        self._download = Downloader(content, flights, limits)
        self._slots = asyncio.Semaphore(limits.downloads)
        self._selection = selection
        self._progress = progress or (lambda _: None)

    async def run(
        self,
        reference: Reference,
        resolved: Callable[[Descriptor], Awaitable[None]] | None = None,
    ) -> Descriptor:
        """Fetch everything and return the root; see `Transfer.fetch`."""
        target = await self._resolver.resolve(reference)
        if resolved is not None:
            await resolved(target)
        fetcher = await self._resolver.fetcher(reference)
        document = await self._document(fetcher, target, reference, ())
        if isinstance(document, Index):
            await self._index(fetcher, target, document, reference)
        else:
            await self._manifest(fetcher, target, document, reference)
        self._progress(Progress("done", str(reference)))
        return target

    async def _index(
        self, fetcher: Fetcher, target: Descriptor, index: Index, reference: Reference
    ) -> None:
        if len(index.manifests) > _CHILDREN_MAX:
            raise ResourceExhausted(
                f"index {target.digest} of {fetcher.hosts} lists {len(index.manifests)} images; "
                f"{_CHILDREN_MAX} is the most"
            )
        chosen = self._choose(index, f"image {reference}")
        for child in index.manifests:
            wanted = child.digest in chosen
            if child.media_type not in MANIFEST_TYPES or not (
                wanted or self._selection.all_metadata
            ):
                continue
            document = await self._document(fetcher, child, reference, (target.digest,))
            if not isinstance(document, Manifest):
                raise DataLoss(f"manifest {child.digest} of {fetcher.hosts} is an index")
            if wanted:
                await self._manifest(fetcher, child, document, reference)
            else:
                await self._blob(fetcher, document.config, reference, (str(child.digest),))

    def _choose(self, index: Index, what: str) -> set[Digest]:
        """Return the digests of the manifests that are wanted whole."""
        selection = self._selection
        offers = [child for child in index.manifests if child.media_type in MANIFEST_TYPES]
        if not selection.platforms:
            return {child.digest for child in offers[: selection.limit or None]}
        ranks = [
            (number, rank, at)
            for at, child in enumerate(offers)
            for number, matcher in enumerate(selection.platforms)
            if child.platform is not None and (rank := matcher.rank(child.platform)) is not None
        ]
        if not ranks:
            select(index, selection.platforms[0], what)  # raises, and says what there is
        best = dict.fromkeys(at for _, _, at in sorted(ranks))
        return {offers[at].digest for at in list(best)[: selection.limit or None]}

    async def _document(
        self,
        fetcher: Fetcher,
        descriptor: Descriptor,
        reference: Reference,
        parents: tuple[str, ...],
    ) -> Index | Manifest:
        """Fetch a document, read it, and label it with its children; drop it if it is not one."""
        was_there = await self._blob(fetcher, descriptor, reference, parents)
        try:
            document = await read_document(self._content, descriptor)
        except SampanError as err:
            if not was_there:
                await self._content.delete(descriptor.digest)
            err.add_note(f"while reading {kind(descriptor)} {descriptor.digest} of {fetcher.hosts}")
            raise _named(err, f"{kind(descriptor)} {descriptor.digest} of {fetcher.hosts}") from err
        await self._label(descriptor, gc_labels(document))
        return document

    async def _manifest(
        self,
        fetcher: Fetcher,
        descriptor: Descriptor,
        manifest: Manifest,
        reference: Reference,
    ) -> None:
        parents = (str(descriptor.digest),)
        await self._blob(fetcher, manifest.config, reference, parents)
        unpackers = await self._unpackers(fetcher, descriptor, manifest)
        wanted = [layer for layer in manifest.layers if not is_foreign(layer.media_type)]
        arrived = {layer.digest: asyncio.Event() for layer in wanted}

        async def fetch(layer: Descriptor) -> None:
            async with self._slots:
                await self._blob(fetcher, layer, reference, parents)
            arrived[layer.digest].set()

        try:
            async with asyncio.TaskGroup() as group:
                for layer in {layer.digest: layer for layer in wanted}.values():
                    group.create_task(fetch(layer))
                for unpacker in unpackers:
                    await self._unpack(unpacker, fetcher, descriptor, manifest, arrived)
        except BaseExceptionGroup as several:
            raise first_error(several) from None

    async def _unpackers(
        self, fetcher: Fetcher, descriptor: Descriptor, manifest: Manifest
    ) -> list[Unpacker]:
        """Return who unpacks this image; what an index says of it goes before its config."""
        unpacks = self._selection.unpacks
        if all(matcher is None for matcher, _ in unpacks) or not manifest.is_image:
            return [unpacker for _, unpacker in unpacks]
        platform = descriptor.platform
        if platform is None:
            what = f"image {descriptor.digest} of {fetcher.hosts}"
            platform = (await self._config(manifest.config, what)).platform
        return [one for matcher, one in unpacks if matcher is None or matcher.match(platform)]

    async def _unpack(
        self,
        unpacker: Unpacker,
        fetcher: Fetcher,
        descriptor: Descriptor,
        manifest: Manifest,
        arrived: dict[Digest, asyncio.Event],
    ) -> None:
        what = f"image {descriptor.digest} of {fetcher.hosts}"
        if not manifest.is_image:
            raise InvalidArgument(f"{what} is an artifact, {manifest.config.media_type[:80]!r}")
        config = await self._config(manifest.config, what)
        layers = [layer for layer in manifest.layers if layer.digest in arrived]
        for layer in layers:
            if not is_layer(layer.media_type):
                raise InvalidArgument(f"{what}: {layer.media_type[:80]!r} is no layer we can apply")
        if len(layers) != len(config.rootfs.diff_ids):
            raise InvalidArgument(
                f"{what} has {len(layers)} layers, but {len(config.rootfs.diff_ids)} diff ids"
            )

        async def ready(number: int) -> None:
            await arrived[layers[number].digest].wait()

        chain = await unpacker(layers, config.rootfs.diff_ids, ready, self._progress)
        # The image keeps what it was unpacked to: without this the next collection takes it.
        label = f"containerd.io/gc.ref.snapshot.{unpacker.snapshotter}"
        await self._label(manifest.config, {label: chain})

    async def _config(self, descriptor: Descriptor, what: str) -> ImageConfig:
        async with await self._content.reader(descriptor.digest) as reader:
            data = await reader.read_at(0, CONFIG_MAX + 1)
        try:
            return decode_config(data)
        except SampanError as err:
            raise _named(err, f"config of {what}") from err

    async def _blob(
        self,
        fetcher: Fetcher,
        descriptor: Descriptor,
        reference: Reference,
        parents: Sequence[str],
    ) -> bool:
        """Make a blob be here with its source label; return whether it was before."""
        what, name, total = kind(descriptor), str(descriptor.digest), descriptor.size
        if what == "config" and total > CONFIG_MAX:
            raise ResourceExhausted(
                f"config {name} of {fetcher.hosts} has {total} bytes; {CONFIG_MAX} is the most"
            )

        def tell(event: str, done: int) -> None:
            self._progress(Progress(event, name, what, done, total, tuple(parents), descriptor))

        tell("downloading", 0)
        key, value = source_label(reference)
        was_there = await self._download.ensure(
            fetcher,
            descriptor,
            labels={key: value},
            progress=lambda done: tell("downloading", done),
        )
        if was_there:
            await self._check_size(descriptor, fetcher)
            before = (await self._content.info(descriptor.digest)).labels.get(key, "")
            key, value = source_label(reference, before)
            if value != before:
                await self._label(descriptor, {key: value})
        tell("exists" if was_there else "complete", total)
        return was_there

    async def _check_size(self, descriptor: Descriptor, fetcher: Fetcher) -> None:
        size = (await self._content.info(descriptor.digest)).size
        if size != descriptor.size:
            raise DataLoss(
                f"{kind(descriptor)} {descriptor.digest} has {size} bytes, but {fetcher.hosts} "
                f"describes it with {descriptor.size}"
            )

    async def _label(self, descriptor: Descriptor, labels: dict[str, str]) -> None:
        if not labels:
            return
        info = await self._content.info(descriptor.digest)
        paths = [f"labels.{key}" for key in labels]
        await self._content.update(replace(info, labels={**info.labels, **labels}), paths)


def _named(error: SampanError, what: str) -> SampanError:
    """Return an error of the same kind whose message begins with what it is about."""
    return type(error)(f"{what}: {error}")
