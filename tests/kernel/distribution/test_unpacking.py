"""An image that is here becomes a chain of snapshots, and says so by its labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.distribution import Progress
from sampan.distribution.archive import load_all
from sampan.distribution.transfer.unpacking import SnapshotUnpacker, unpack_present
from sampan.errors import NotFound
from sampan.model.image import MANIFEST_MAX, Manifest, decode
from sampan.storage.content.local import LocalStore
from sampan.storage.snapshots.native import NativeSnapshotter
from sampan.storage.workers import SpawnRunner
from sampan.testing import requires
from sampan.testing.daemons import tiny_archive

pytestmark = requires("root")


async def test_unpacked_and_labelled(short_path: Path) -> None:
    store = LocalStore(short_path / "content")
    snapshots = NativeSnapshotter(short_path / "native")
    try:
        loaded = await load_all(store, tiny_archive(short_path))
        (found,) = loaded.images
        assert found.annotations["io.containerd.image.name"] == "example.com/tool:1"
        async with await store.reader(found.target.digest) as reader:
            manifest = decode(await reader.read_at(0, MANIFEST_MAX), found.target.media_type)
        assert isinstance(manifest, Manifest)
        unpacker = SnapshotUnpacker("native", snapshots, store, SpawnRunner())
        told: list[Progress] = []
        chain = await unpack_present(store, manifest, unpacker, told.append)
        assert (await snapshots.stat(chain)).name == chain
        assert [(one.event, one.descriptor) for one in told] == [("extracted", manifest.layers[0])]
        config = await store.info(manifest.config.digest)
        assert config.labels == {"containerd.io/gc.ref.snapshot.native": chain}
        layer = await store.info(manifest.layers[0].digest)
        assert layer.labels == {}  # it is not compressed: its digest says what it is
        assert await unpack_present(store, manifest, unpacker) == chain
        await store.delete(manifest.config.digest)
        with pytest.raises(NotFound):
            await unpack_present(store, manifest, unpacker)
    finally:
        await snapshots.close()
