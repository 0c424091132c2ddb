"""Unpackers: an image's layers into one snapshotter, by confined workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, cast

from sampan.distribution import Progress, ProgressSink
from sampan.distribution.transfer import Unpacker
from sampan.errors import NotFound
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.model.image import CONFIG_MAX, Manifest, decode_config
from sampan.storage.content import Store
from sampan.storage.diff.layers import LayerApplier
from sampan.storage.snapshots import Snapshotter
from sampan.storage.unpack import unpack
from sampan.storage.workers import Runner

__all__ = ["SnapshotUnpacker", "unpack_present"]

_UNCOMPRESSED: Final = "containerd.io/uncompressed"


class SnapshotUnpacker:
    """See `transfer.Unpacker`."""

    def __init__(self, name: str, snapshots: Snapshotter, content: Store, runner: Runner) -> None:
        """Unpack into `snapshots`, known as `name`, what lies in `content`."""
        self._name = name
        self._snapshots = snapshots
        self._content = content
        self._applier = LayerApplier(content, runner)

    @property
    def snapshotter(self) -> str:
        """Whose snapshots these are: config blobs refer to them by this name."""
        return self._name

    async def __call__(
        self,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        ready: Callable[[int], Awaitable[None]],
        progress: ProgressSink | None,
    ) -> str:
        numbers = {layer.digest: number for number, layer in enumerate(layers)}

        def arrival(layer: Descriptor) -> asyncio.Future[None]:
            return cast("asyncio.Future[None]", ready(numbers[layer.digest]))

        def tell(layer: Descriptor) -> None:
            if progress is not None:
                size = layer.size
                progress(Progress("extracted", str(layer.digest), "layer", size, size, (), layer))

        chain = await unpack(
            self._snapshots, self._applier, layers, diff_ids, ready=arrival, progress=tell
        )
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            if layer.digest != diff_id:
                await self._remember(layer, diff_id)
        return chain

    async def _remember(self, layer: Descriptor, diff_id: Digest) -> None:
        """Label a compressed layer with what it is uncompressed; builders and converters look."""
        with suppress(NotFound):  # a layer whose snapshot was there need not be here
            info = await self._content.info(layer.digest)
            if info.labels.get(_UNCOMPRESSED) != diff_id:
                labels = {**info.labels, _UNCOMPRESSED: diff_id}
                await self._content.update(
                    replace(info, labels=labels), [f"labels.{_UNCOMPRESSED}"]
                )


async def unpack_present(
    content: Store, manifest: Manifest, unpacker: Unpacker, progress: ProgressSink | None = None
) -> str:
    """Unpack an image whose blobs are here, under the caller's lease; return its chain id.

    Raises:
      NotFound: a blob is not here.
      SampanError: as `storage.unpack.unpack`.
    """
    async with await content.reader(manifest.config.digest) as reader:
        config = decode_config(await reader.read_at(0, CONFIG_MAX + 1))
    chain = await unpacker(manifest.layers, config.rootfs.diff_ids, _is_here, progress)
    # The image keeps what it was unpacked to: without this the next collection takes it.
    key = f"containerd.io/gc.ref.snapshot.{unpacker.snapshotter}"
    info = await content.info(manifest.config.digest)
    await content.update(replace(info, labels={**info.labels, key: chain}), [f"labels.{key}"])
    return chain


async def _is_here(number: int) -> None:
    del number
