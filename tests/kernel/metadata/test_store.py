"""The stores as containerd's clients use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.kernel.metadata.folder_stores import FolderContent, FolderSnapshots

from sampan import context
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from sampan.events import Envelope, Exchange, Subscription
from sampan.metadata import (
    Container,
    Image,
    Metadata,
    Opaque,
    Resource,
    Runtime,
    Sandbox,
    SharingPolicy,
)
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest, of_bytes
from sampan.storage.snapshots import Info

TARGET = Descriptor(media_type="m", digest=of_bytes(b"t"), size=1)


@pytest.fixture
async def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
async def metadata(tmp_path: Path, exchange: Exchange) -> AsyncIterator[Metadata]:
    async with await Metadata.open(
        tmp_path,
        content=FolderContent(tmp_path / "content"),
        snapshotters={"folder": FolderSnapshots(tmp_path / "folder")},
        events=exchange,
    ) as opened:
        with context.scope("ns"):
            yield opened


def container(name: str = "c", **changes: object) -> Container:
    one = Container(id=name, runtime=Runtime("r", Opaque("o", b"1")), spec=Opaque("t", b"\xff"))
    return replace(one, **changes)  # type: ignore[arg-type]


async def put(metadata: Metadata, data: bytes, **labels: str) -> Digest:
    async with await metadata.content.writer(f"w-{data!r}") as writer:
        await writer.write(data)
        return (await writer.commit(labels=labels)).digest


def queued(stream: Subscription) -> list[Envelope]:
    return list(stream._queue)


async def test_images(metadata: Metadata, exchange: Exchange) -> None:
    stream = exchange.subscribe()
    image = await metadata.images.create(Image(name="i", target=TARGET, labels={"a": "1"}))
    assert image.created_at == image.updated_at
    assert await metadata.images.get("i") == image
    with pytest.raises(AlreadyExists):
        await metadata.images.create(image)
    new = await metadata.images.update(replace(image, labels={"b": "2"}), ("labels.b",))
    assert new.labels == {"a": "1", "b": "2"}
    new = await metadata.images.update(replace(image, labels={}), ("labels.a",))
    assert new.labels == {"b": "2"}
    assert new.created_at == image.created_at
    with pytest.raises(InvalidArgument):
        await metadata.images.update(image, ("name",))
    assert [one.name for one in await metadata.images.list('labels."b"==2')] == ["i"]
    assert await metadata.images.list("name==x") == []
    with context.scope("other"), pytest.raises(NotFound):
        await metadata.images.get("i")
    with pytest.raises(NotFound):
        await metadata.images.delete("i", target=of_bytes(b"other"))
    await metadata.images.delete("i", target=TARGET.digest)
    with pytest.raises(NotFound):
        await metadata.images.delete("i")
    assert [each.topic for each in queued(stream)] == [
        "/images/create",
        "/images/update",
        "/images/update",
        "/images/delete",
    ]
    stream.close()


async def test_containers(metadata: Metadata) -> None:
    made = await metadata.containers.create(container(extensions={"e": Opaque("u", b"\0\xff")}))
    assert await metadata.containers.get("c") == made
    new = await metadata.containers.update(
        replace(made, labels={"k": "v"}, extensions={"f": Opaque("u")}), ("labels.k",)
    )
    assert new.labels == {"k": "v"}
    assert new.extensions == made.extensions
    with pytest.raises(InvalidArgument, match="immutable"):
        await metadata.containers.update(replace(made, runtime=Runtime("x")))
    with pytest.raises(InvalidArgument, match="immutable"):
        await metadata.containers.update(replace(made, snapshotter="x"))
    with pytest.raises(InvalidArgument):
        await metadata.containers.create(container("d", runtime=Runtime()))
    with pytest.raises(InvalidArgument):
        await metadata.containers.create(container("../d"))
    with pytest.raises(AlreadyExists):
        await metadata.containers.create(container())
    assert await metadata.containers.list("runtime.name==r,labels.k")
    await metadata.containers.delete("c")
    with pytest.raises(NotFound):
        await metadata.containers.delete("c")


async def test_container_and_its_snapshot_go_together(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    await view.prepare("c")
    await metadata.containers.create(container(snapshotter="folder", snapshot_key="c"))
    await metadata.containers.delete("c", snapshots=metadata.snapshotters)
    with pytest.raises(NotFound):
        await view.stat("c")


async def test_label_limit(metadata: Metadata) -> None:
    await metadata.images.create(Image(name="i", target=TARGET, labels={"k" * 96: "v" * 4000}))
    with pytest.raises(InvalidArgument, match="greater than maximum size"):
        await metadata.images.create(Image(name="j", target=TARGET, labels={"k" * 97: "v" * 4000}))


async def test_namespaces(metadata: Metadata) -> None:
    await metadata.namespaces.update("up", {"a": "1"})
    with pytest.raises(AlreadyExists):
        await metadata.namespaces.create("up")
    await metadata.snapshotter("folder").prepare("k")
    await metadata.leases.create("l")
    with pytest.raises(FailedPrecondition, match='has snapshots on "folder" snapshotter'):
        await metadata.namespaces.delete("ns")
    assert [one.name for one in await metadata.namespaces.list()] == ["ns", "up"]
    await metadata.namespaces.delete("up")
    with pytest.raises(NotFound):
        await metadata.namespaces.get("up")


async def test_content_is_seen_where_it_has_a_row(metadata: Metadata) -> None:
    digest = await put(metadata, b"data", k="v")
    assert (await metadata.content.info(digest)).labels == {"k": "v"}
    with pytest.raises(AlreadyExists):
        await metadata.content.writer("again", expected=digest)
    with context.scope("other"):
        with pytest.raises(NotFound):
            await metadata.content.info(digest)
        # Who can name it has it, without sending a byte.
        async with await metadata.content.writer("w", expected=digest) as writer:
            assert (await writer.status()).offset == 4
            await writer.commit(4, digest)
        await metadata.content.delete(digest)
        await metadata.collect()
        with pytest.raises(NotFound):
            await metadata.content.info(digest)
    # Not labelled, not leased: the collection took it here, too.
    with pytest.raises(NotFound):
        await metadata.content.info(digest)


async def test_isolated_content_needs_its_bytes_or_a_sharer(tmp_path: Path) -> None:
    bare = FolderContent(tmp_path / "content")
    async with await Metadata.open(
        tmp_path, content=bare, sharing=SharingPolicy.ISOLATED
    ) as metadata:
        with context.scope("giver"):
            digest = await put(metadata, b"data")
        with context.scope("taker"):
            async with await metadata.content.writer("w", expected=digest) as writer:
                assert (await writer.status()).offset == 0
            await metadata.namespaces.update("giver", {"containerd.io/namespace.shareable": "true"})
            await metadata.content.abort("w")
            async with await metadata.content.writer("w", expected=digest) as writer:
                assert (await writer.status()).offset == 4


async def test_wrong_digest_keeps_the_ingest(metadata: Metadata) -> None:
    async with await metadata.content.writer("w") as writer:
        await writer.write(b"data")
        with pytest.raises(FailedPrecondition):
            await writer.commit(0, of_bytes(b"other"))
        assert (await metadata.content.status("w")).offset == 4
        assert (await writer.commit(0, of_bytes(b"data"))).size == 4
    with pytest.raises(NotFound):
        await metadata.content.status("w")


async def test_snapshots(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    await view.prepare("a/b")
    await view.commit("base", "a/b", labels={"x": "1"})
    with pytest.raises(NotFound):
        await view.stat("a/b")
    with pytest.raises(AlreadyExists, match="target"):
        await view.prepare("k", labels={"containerd.io/snapshot.ref": "base"})
    await view.prepare("child", "base")
    with pytest.raises(FailedPrecondition, match="child"):
        await view.remove("base")
    with pytest.raises(InvalidArgument):
        await view.prepare("grandchild", "child")
    info = await view.stat("base")
    assert info.created_at == info.updated_at
    with pytest.raises(InvalidArgument):
        await view.update(replace(info, parent="x"), ("parent",))
    changed: Info = await view.update(replace(info, parent="x", labels={"y": "2"}))
    assert (changed.parent, changed.labels) == ("", {"y": "2"})
    await view.remove("child")
    await view.remove("base")
    await view.prepare("base")
    with context.scope("other"):
        await view.prepare("base")
    assert [one.name async for one in view.walk(["kind==active"])] == ["base"]


async def test_a_lease_keeps_a_target_that_is_found(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    lease = await metadata.leases.create("l")
    await view.prepare("k", labels={"containerd.io/snapshot.ref": "base"})
    await view.commit("base", "k")
    with context.scope("ns", lease=lease.id), pytest.raises(AlreadyExists, match="target"):
        await view.prepare("k", labels={"containerd.io/snapshot.ref": "base"})
    await metadata.collect()
    assert (await view.stat("base")).name == "base"
    await metadata.leases.delete("l", sync=True)
    with pytest.raises(NotFound):
        await view.stat("base")


async def test_leases_keep_until_they_expire(metadata: Metadata) -> None:
    await metadata.leases.create("l", expire_s=3600)
    with context.scope(lease="l"):
        digest = await put(metadata, b"leased")
        await metadata.snapshotter("folder").prepare("s")
    with context.scope(lease="gone"), pytest.raises(NotFound):
        await put(metadata, b"x")
    await metadata.collect()
    await metadata.content.info(digest)
    assert await metadata.leases.resources("l") == (
        Resource("content", digest),
        Resource("snapshots/folder", "s"),
    )
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    await metadata.leases.create("late", {"containerd.io/gc.expire": past})
    await metadata.leases.delete("l", sync=True)
    with pytest.raises(NotFound):
        await metadata.content.info(digest)
    with pytest.raises(NotFound):
        await metadata.leases.get("late")
    await metadata.leases.create("x")
    with pytest.raises(InvalidArgument):
        await metadata.leases.add_resource("x", Resource("nothing", "a"))


async def test_sandboxes(metadata: Metadata) -> None:
    one = await metadata.sandboxes.create(
        Sandbox(id="s", sandboxer="shim", runtime=Runtime("r"), spec=Opaque("t", b"s"))
    )
    assert await metadata.sandboxes.get("s") == one
    new = await metadata.sandboxes.update(replace(one, labels={"a": "b"}), ("labels.a",))
    assert new.spec == one.spec
    assert await metadata.sandboxes.list("labels.a==b") == [new]
    await metadata.sandboxes.delete("s")
    with pytest.raises(NotFound):
        await metadata.sandboxes.get("s")


async def test_a_ref_that_is_being_committed_is_taken(metadata: Metadata, tmp_path: Path) -> None:
    """Between the blob on disk and its row, nobody may begin to fetch the same blob again."""
    digest = of_bytes(b"data")
    other = await Metadata.open(
        tmp_path,
        content=FolderContent(tmp_path / "content"),
        snapshotters={"folder": FolderSnapshots(tmp_path / "folder")},
    )
    async with await other.content.writer("r", expected=digest) as writer:
        await writer.write(b"data")
        await other.content.guard("ns", "r", digest)
    with pytest.raises(Unavailable, match="being committed"):
        await metadata.content.writer("r", expected=digest)
    await other.close()
    async with await metadata.content.writer("r", expected=digest) as writer:
        assert (await writer.commit()).digest == digest


async def test_a_lease_keeps_a_blob_that_is_found(metadata: Metadata) -> None:
    digest = await put(metadata, b"data")
    lease = await metadata.leases.create("l")
    with context.scope("ns", lease=lease.id), pytest.raises(AlreadyExists):
        await metadata.content.writer("r", expected=digest)
    await metadata.collect()
    assert (await metadata.content.info(digest)).size == 4
    await metadata.leases.delete("l", sync=True)
    with pytest.raises(NotFound):
        await metadata.content.info(digest)
