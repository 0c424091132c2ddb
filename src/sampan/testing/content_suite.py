"""What every content store must do, as tests: give a `store` fixture and inherit.

class TestLocal(ContentSuite):
    @pytest.fixture
    def store(self, root): return LocalStore(root / "content")
"""

from __future__ import annotations

import pytest

from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Unavailable,
)
from sampan.model import digest as digests
from sampan.model.digest import Digest
from sampan.storage.content import Store

__all__ = ["ContentSuite"]

DATA = bytes(range(256)) * 1000
DIGEST = digests.of_bytes(DATA)
ABSENT = digests.of_bytes(b"absent")


async def put(store: Store, data: bytes, **labels: str) -> Digest:
    """Store `data`."""
    async with await store.writer(f"put-{digests.of_bytes(data)}") as writer:
        await writer.write(data)
        return (await writer.commit(len(data), labels=labels)).digest


class ContentSuite:
    """Tests of the Protocol `Store`; `store` is empty."""

    async def test_a_committed_blob_is_what_was_written(self, store: Store) -> None:
        async with await store.writer("a", expected=DIGEST, total=len(DATA)) as writer:
            assert await writer.write(DATA[:1000]) == 1000
            assert await writer.write(memoryview(DATA)[1000:]) == len(DATA)
            info = await writer.commit(len(DATA), DIGEST, labels={"k": "v"})
        assert (info.digest, info.size, info.labels) == (DIGEST, len(DATA), {"k": "v"})
        assert await store.list_statuses() == []
        async with await store.reader(DIGEST) as reader:
            assert reader.size == len(DATA)
            assert b"".join([part async for part in reader.chunks()]) == DATA
            assert await reader.read_at(10, 5) == DATA[10:15]
            assert await reader.read_at(len(DATA), 5) == b""
            with pytest.raises(OutOfRange):
                await reader.read_at(len(DATA) + 1, 1)

    async def test_nothing_is_visible_before_commit(self, store: Store) -> None:
        async with await store.writer("a", expected=DIGEST) as writer:
            await writer.write(DATA)
            with pytest.raises(NotFound):
                await store.info(DIGEST)
            assert [info async for info in store.walk()] == []

    async def test_a_wrong_digest_or_size_keeps_the_ingest(self, store: Store) -> None:
        async with await store.writer("a") as writer:
            await writer.write(DATA)
            with pytest.raises(FailedPrecondition, match="digest"):
                await writer.commit(0, ABSENT)
            with pytest.raises(FailedPrecondition, match=r"bytes|size"):
                await writer.commit(1, DIGEST)
        async with await store.writer("a") as writer:
            assert (await writer.status()).offset == len(DATA)
            await writer.commit(len(DATA), DIGEST)

    async def test_an_ingest_resumes_with_all_it_had(self, store: Store) -> None:
        async with await store.writer("r", expected=DIGEST, total=len(DATA)) as writer:
            await writer.write(DATA[:5000])
            before, running = await writer.status(), await writer.digest()
        assert running == digests.of_bytes(DATA[:5000])
        async with await store.writer("r", expected=DIGEST) as writer:
            after = await writer.status()
            assert (after.offset, after.total) == (5000, len(DATA))
            assert after.started_at == before.started_at
            assert await writer.digest() == running
            await writer.write(DATA[5000:])
            await writer.commit(len(DATA), DIGEST)

    async def test_a_ref_has_one_writer(self, store: Store) -> None:
        async with await store.writer("r"):
            with pytest.raises(Unavailable):
                await store.writer("r")
            with pytest.raises(Unavailable):
                await store.abort("r")
        async with await store.writer("r"):
            pass

    async def test_what_exists_is_not_written_again(self, store: Store) -> None:
        async with await store.writer("late") as late:
            await late.write(DATA)
            await put(store, DATA)
            with pytest.raises(AlreadyExists):
                await store.writer("again", expected=DIGEST)
            with pytest.raises(AlreadyExists):
                await late.commit(len(DATA), DIGEST)
        assert await store.list_statuses() == []

    async def test_truncate(self, store: Store) -> None:
        async with await store.writer("t") as writer:
            await writer.write(b"garbage")
            with pytest.raises(OutOfRange):
                await writer.truncate(8)
            await writer.truncate(0)
            await writer.write(DATA)
            await writer.commit(len(DATA), DIGEST)

    async def test_abort(self, store: Store) -> None:
        async with await store.writer("x") as writer:
            await writer.write(b"x")
        assert [one.ref for one in await store.list_statuses(["ref==x"])] == ["x"]
        await store.abort("x")
        for call in (store.abort, store.status):
            with pytest.raises(NotFound):
                await call("x")

    async def test_delete_lets_readers_read_on(self, store: Store) -> None:
        await put(store, DATA)
        async with await store.reader(DIGEST) as reader:
            await store.delete(DIGEST)
            assert await reader.read_at(0, 10) == DATA[:10]
        with pytest.raises(NotFound):
            await store.delete(DIGEST)
        with pytest.raises(NotFound):
            await store.reader(DIGEST)
        await put(store, DATA)

    async def test_labels(self, store: Store) -> None:
        await put(store, DATA, a="1", b="2")
        info = await store.info(DIGEST)
        changed = type(info)(info.digest, 0, info.created_at, info.updated_at, {"a": "3"})
        assert (await store.update(changed, ["labels.a"])).labels == {"a": "3", "b": "2"}
        assert (await store.update(changed, ["labels.b"])).labels == {"a": "3"}
        assert (await store.update(changed)).labels == {"a": "3"}
        with pytest.raises(InvalidArgument):
            await store.update(changed, ["size"])
        absent = type(info)(ABSENT, 0, info.created_at, info.updated_at, {})
        with pytest.raises(NotFound):
            await store.update(absent)

    async def test_walk_filters(self, store: Store) -> None:
        await put(store, b"one", kind="x")
        await put(store, b"two", kind="y")
        found = [info.digest async for info in store.walk(["labels.kind==x"])]
        assert found == [digests.of_bytes(b"one")]
        assert len([info async for info in store.walk()]) == 2

    async def test_sha512(self, store: Store) -> None:
        wanted = digests.of_bytes(DATA, "sha512")
        async with await store.writer("s", expected=wanted) as writer:
            await writer.write(DATA)
            assert (await writer.commit()).digest == wanted
