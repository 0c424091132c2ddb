"""Images of several layers, side by side and on top of each other, by each runner."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sampan.errors import DataLoss, InvalidArgument
from sampan.model import digest as digests
from sampan.model.descriptor import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from sampan.model.digest import Digest
from sampan.storage.content.local import LocalStore
from sampan.storage.diff.compare import WalkingComparer
from sampan.storage.diff.layers import LayerApplier
from sampan.storage.snapshots.native import NativeSnapshotter
from sampan.storage.snapshots.overlay import FolderSnapshotter, OverlaySnapshotter
from sampan.storage.unpack import unpack
from sampan.storage.workers import MODULE, Runner, SpawnRunner, ZygoteRunner
from sampan.testing import requires
from sampan.testing.snapshot_suite import opened
from sampan.zygote import Zygote

pytestmark = requires("root")

Tar = Callable[..., bytes]


@pytest.fixture
def runner() -> Iterator[Runner]:
    with Zygote.start(preload=(MODULE,)) as zygote:
        yield ZygoteRunner(zygote)


@pytest.fixture(params=[OverlaySnapshotter, NativeSnapshotter])
async def snapshotter(
    request: pytest.FixtureRequest, root: Path
) -> AsyncIterator[FolderSnapshotter]:
    made = request.param(root / "snapshots")
    yield made
    await made.close()


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root / "content")


async def put(store: LocalStore, *layers: bytes) -> tuple[list[Descriptor], list[Digest]]:
    found = []
    for data in layers:
        digest = digests.of_bytes(data)
        async with await store.writer(digest) as writer:
            await writer.write(data)
            await writer.commit()
        found.append(Descriptor(media_type=OCI_LAYER, digest=digest, size=len(data)))
    return found, [one.digest for one in found]


def names(root: int) -> list[str]:
    found = []
    top = os.open(".", os.O_RDONLY, dir_fd=root)
    for folder, folders, files in os.walk(f"/proc/self/fd/{top}"):
        here = os.path.relpath(folder, f"/proc/self/fd/{top}")
        found += [os.path.normpath(os.path.join(here, one)) for one in folders + files]
    os.close(top)
    return sorted(found)


async def test_layers_become_one_tree(
    store: LocalStore, snapshotter: FolderSnapshotter, runner: Runner, tar: Tar
) -> None:
    layers, diff_ids = await put(
        store,
        tar(
            ("d", "dir", {"mode": 0o711, "uid": 5, "gid": 6}),
            ("d/old", b"old"),
            ("o", "dir"),
            ("o/hidden", b"x"),
            ("gone", b"x"),
            ("link", "symlink", {"linkname": "d"}),
            ("w", "dir"),
            ("w/below", b"x"),
        ),
        tar(("d/new", b"new"), (".wh.gone", b""), ("o/.wh..wh..opq", b""), ("o/mine", b"x")),
        tar(("hard", "link", {"linkname": "d/old"}), (".wh.w", b""), ("w", "dir"), ("w/own", b"")),
        tar(("link/through", b"x")),
    )
    top = await unpack(snapshotter, LayerApplier(store, runner), layers, diff_ids)
    with opened(await snapshotter.view("v", top)) as root:
        assert names(root) == sorted(
            ["d", "d/old", "d/new", "d/through", "o", "o/mine", "link", "hard", "w", "w/own"]
        )
        status = os.stat("d", dir_fd=root)
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o711, 5, 6)
        assert os.stat("hard", dir_fd=root).st_size == 3
    assert await unpack(snapshotter, LayerApplier(store, runner), layers, diff_ids) == top
    kept = [one.name async for one in snapshotter.walk()]
    assert not [name for name in kept if name.startswith("extract-")]


async def test_a_wrong_diff_id(
    store: LocalStore, snapshotter: FolderSnapshotter, runner: Runner, tar: Tar
) -> None:
    layers, diff_ids = await put(store, tar(("a", b"x")), tar(("b", b"x")))
    wrong = [diff_ids[0], digests.of_bytes(b"other")]
    with pytest.raises(DataLoss, match="DiffID"):
        await unpack(snapshotter, LayerApplier(store, runner), layers, wrong)
    kept = [one.name async for one in snapshotter.walk()]
    assert kept in ([], [diff_ids[0]])


async def test_a_refused_layer_leaves_nothing(
    store: LocalStore, snapshotter: FolderSnapshotter, tar: Tar
) -> None:
    layers, diff_ids = await put(store, tar(("../a", b"x")))
    with pytest.raises(InvalidArgument, match=r"'\.\.'"):
        await unpack(snapshotter, LayerApplier(store, SpawnRunner()), layers, diff_ids)
    assert [one async for one in snapshotter.walk()] == []


async def test_compare_makes_a_layer(
    store: LocalStore, snapshotter: FolderSnapshotter, runner: Runner, tar: Tar
) -> None:
    applier = LayerApplier(store, runner)
    layers, diff_ids = await put(store, tar(("a", b"x"), ("b", b"x"), ("d", "dir")))
    top = await unpack(snapshotter, applier, layers, diff_ids)
    mounts = await snapshotter.prepare("c", top)
    with opened(mounts) as root:
        os.unlink("a", dir_fd=root)
        os.mkdir("d/e", dir_fd=root)
    comparer = WalkingComparer(store)
    made = await comparer.compare(await snapshotter.view("v", top), mounts)
    again = await comparer.compare(await snapshotter.mounts("v"), mounts)
    assert made == again
    assert made.media_type == OCI_LAYER_GZIP
    diff_id = digests.parse(made.annotation["containerd.io/uncompressed"])
    assert (await store.info(made.digest)).labels == {"containerd.io/uncompressed": diff_id}
    new = await unpack(snapshotter, applier, [*layers, made], [*diff_ids, diff_id])
    with opened(await snapshotter.view("n", new)) as root:
        assert names(root) == ["b", "d", "d/e"]
