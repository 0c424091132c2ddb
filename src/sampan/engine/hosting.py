"""A content store of somebody else's under our metadata, which wants a little more of it.

`metadata` asks two things of a bare store from within its transactions, in its own thread: whether
a blob is there (`size_of`), and that a blob loses its name (`trash`). A store in another process,
or one that knows only how to `delete`, can do neither at once. So a trashed blob is *doomed* here:
to metadata it is gone, and `cleanup`, which follows each collection, deletes it; whoever writes the
same digest again meanwhile waits for that deletion first. Should we die in between, the blob is an
orphan, and the next collection dooms it again.

Only one process may use such a store: another one does not know our doomed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Self

from sampan.errors import DeadlineExceeded, NotFound
from sampan.model.digest import Digest
from sampan.storage.content import BareStore, Info, Reader, Status, Store, Writer

__all__ = ["HostedStore", "hosted"]

_ASK_S: Final = 20.0


def hosted(store: Store) -> BareStore:
    """Return the store itself if it is a bare one; else host it, on the running loop."""
    return store if isinstance(store, BareStore) else HostedStore(store)


class HostedStore:
    """See the module; owns the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._doomed: dict[Digest, asyncio.Lock] = {}

    def size_of(self, digest: Digest) -> int | None:
        if digest in self._doomed:
            return None
        asked = asyncio.run_coroutine_threadsafe(self._store.info(digest), self._loop)
        try:
            return asked.result(_ASK_S).size
        except NotFound:
            return None
        except TimeoutError:
            asked.cancel()
            raise DeadlineExceeded(f"content store did not tell of {digest}") from None

    def trash(self, digest: Digest) -> bool:
        if self.size_of(digest) is None:
            return False
        self._doomed[digest] = asyncio.Lock()
        return True

    async def _end(self, digest: Digest) -> None:
        """Delete a doomed blob, unless somebody has by now."""
        lock = self._doomed.get(digest)
        if lock is None:
            return
        async with lock:
            if self._doomed.get(digest) is lock:
                try:
                    await self._store.delete(digest)
                except NotFound:
                    pass
                finally:
                    del self._doomed[digest]

    async def cleanup(self) -> None:
        for digest in list(self._doomed):
            await self._end(digest)
        await self._store.cleanup()

    async def info(self, digest: Digest) -> Info:
        self._check(digest)
        return await self._store.info(digest)

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        self._check(info.digest)
        return await self._store.update(info, fieldpaths)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        async for info in self._store.walk(filters):
            if info.digest not in self._doomed:
                yield info

    async def delete(self, digest: Digest) -> None:
        self._check(digest)
        await self._store.delete(digest)

    async def reader(self, digest: Digest) -> Reader:
        self._check(digest)
        return await self._store.reader(digest)

    async def writer(self, ref: str, *, expected: Digest | None = None, total: int = 0) -> Writer:
        if expected is not None:
            await self._end(expected)
        return _Writer(self, await self._store.writer(ref, expected=expected, total=total))

    async def status(self, ref: str) -> Status:
        return await self._store.status(ref)

    async def list_statuses(self, filters: Sequence[str] = ()) -> list[Status]:
        return await self._store.list_statuses(filters)

    async def abort(self, ref: str) -> None:
        await self._store.abort(ref)

    async def close(self) -> None:
        await self._store.close()

    def _check(self, digest: Digest) -> None:
        if digest in self._doomed:
            raise NotFound(f"content {digest}: not found")


class _Writer:
    """A writer that first lets a doomed blob of its digest go."""

    def __init__(self, host: HostedStore, writer: Writer) -> None:
        self._host = host
        self._writer = writer
        self.write = writer.write
        self.digest = writer.digest
        self.status = writer.status
        self.truncate = writer.truncate
        self.close = writer.close

    @property
    def ref(self) -> str:
        return self._writer.ref

    async def commit(
        self,
        size: int = 0,
        expected: Digest | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Info:
        await self._host._end(expected or await self._writer.digest())  # noqa: SLF001 - our host
        return await self._writer.commit(size, expected, labels=labels)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._writer.close()
