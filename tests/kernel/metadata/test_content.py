"""Content as namespaces see it: sharing, refs, failed commits."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kernel.metadata.folder_stores import FolderContent, FolderSnapshots
from tests.kernel.metadata.objects import put

from sampan import context
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Unavailable,
)
from sampan.metadata import (
    Metadata,
    SharingPolicy,
)
from sampan.model.digest import of_bytes


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
