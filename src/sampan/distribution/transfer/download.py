"""One blob from a fetcher into the content store: once, resumed, verified.

writer(ref, expected) ── AlreadyExists ──► it is there
│            └ Unavailable ──► another process has it: wait for blob or ref
▼
fetch from the ingest's offset ──► write ──► commit
│ connection broke: again from where we are, as long as bytes come
└ wrong bytes: drop the ingest; once more if they were partly an older try's
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from sampan.distribution import Fetcher
from sampan.distribution.transfer import Limits
from sampan.distribution.transfer.children import ref_key
from sampan.errors import (
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    SampanError,
    Unavailable,
    Unimplemented,
)
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.storage.content import Store, Writer

__all__ = ["Downloader", "Flights", "first_error"]

log = logging.getLogger(__name__)

_POLL_MIN_S: Final = 0.02
_POLL_MAX_S: Final = 1.0
_STALLED_S: Final = 300.0
_BACKOFF_S: Final = 0.2
_BACKOFF_MAX_S: Final = 5.0
_GATHER: Final = 1 << 20
_Sink = Callable[[bytes], Awaitable[None]]


class Flights:
    """At most one download of each blob in this process; the others wait and find it done."""

    def __init__(self) -> None:
        """Make an empty set; share it between all transfers on one content store."""
        self._locks: dict[Digest, tuple[asyncio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def only(self, digest: Digest) -> AsyncIterator[None]:
        """Hold the right to download `digest`."""
        lock, users = self._locks.setdefault(digest, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._locks[digest]


class Downloader:
    """Downloads into one content store."""

    def __init__(self, content: Store, flights: Flights, limits: Limits) -> None:
        """Keep what all downloads of a transfer share."""
        self._content = content
        self._flights = flights
        self._limits = limits

    async def ensure(
        self,
        fetcher: Fetcher,
        descriptor: Descriptor,
        *,
        labels: Mapping[str, str],
        progress: Callable[[int], None],
    ) -> bool:
        """Make the blob be in the store; return whether it was there before.

        Cancelled, or with an Unavailable or DeadlineExceeded, it leaves the ingest, to be resumed;
        with any other error nothing.

        Raises:
          DataLoss: the registry's bytes are not what the descriptor says.
          SampanError: as the fetcher and the store say.
        """
        async with self._flights.only(descriptor.digest):
            try:
                writer = await self._writer(descriptor, progress)
            except AlreadyExists:
                return True
            drop = False
            async with writer:
                try:
                    resumed = await self._fill(writer, fetcher, descriptor, progress)
                    await self._commit(
                        writer, fetcher, descriptor, labels, progress, resumed=resumed
                    )
                except (Unavailable, DeadlineExceeded):
                    raise
                except SampanError:
                    drop = True
                    raise
                finally:
                    if drop:
                        await writer.close()
                        await self._abort(descriptor)
            return False

    async def _writer(self, descriptor: Descriptor, progress: Callable[[int], None]) -> Writer:
        """Open the ingest; wait while another process writes it, as long as that goes on."""
        loop = asyncio.get_running_loop()
        pause, seen, deadline = _POLL_MIN_S, -1, loop.time() + _STALLED_S
        ref = ref_key(descriptor)
        while True:
            try:
                return await self._content.writer(
                    ref, expected=descriptor.digest, total=descriptor.size
                )
            except Unavailable:
                try:
                    offset = (await self._content.status(ref)).offset
                except NotFound:
                    offset = seen
                if offset != seen:
                    seen, deadline = offset, loop.time() + _STALLED_S
                    progress(offset)
                if loop.time() > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _POLL_MAX_S)

    async def _fill(
        self,
        writer: Writer,
        fetcher: Fetcher,
        descriptor: Descriptor,
        progress: Callable[[int], None],
    ) -> bool:
        """Write what is missing; return whether some of it was there."""
        offset = (await writer.status()).offset
        if offset > descriptor.size:
            await writer.truncate(0)
            offset = 0
        resumed = offset > 0

        async def sink(chunk: bytes) -> None:
            nonlocal offset
            offset = await writer.write(chunk)
            progress(offset)

        fruitless = 0
        while offset < descriptor.size:
            before = offset
            try:
                await self._receive(fetcher, descriptor, offset, sink)
            except (Unavailable, DeadlineExceeded) as err:
                fruitless = 0 if offset > before else fruitless + 1
                if fruitless >= self._limits.attempts or isinstance(err, DeadlineExceeded):
                    raise
                log.debug("resuming: blob=%s offset=%d error=%s", descriptor.digest, offset, err)
                await asyncio.sleep(min(_BACKOFF_S * (1 << fruitless), _BACKOFF_MAX_S))
        return resumed

    async def _receive(
        self, fetcher: Fetcher, descriptor: Descriptor, offset: int, sink: _Sink
    ) -> None:
        limits = self._limits
        if limits.large_bytes and descriptor.size - offset >= limits.large_bytes:
            if await _by_ranges(fetcher, descriptor, offset, sink, limits):
                return
            log.debug("host has no ranges: blob=%s", descriptor.digest)
        async with fetcher.fetch(descriptor, offset) as stream:
            skip = offset - stream.offset
            gathered: list[bytes] = []
            size = 0
            try:
                async for chunk in stream:
                    if skip:
                        useful = chunk[skip:]
                        skip -= len(chunk) - len(useful)
                    else:
                        useful = chunk
                    gathered.append(useful)
                    size += len(useful)
                    if size >= _GATHER:
                        await sink(b"".join(gathered))
                        gathered, size = [], 0
            finally:
                # What came before the break is what the next try need not fetch.
                if size:
                    await sink(b"".join(gathered))

    async def _commit(
        self,
        writer: Writer,
        fetcher: Fetcher,
        descriptor: Descriptor,
        labels: Mapping[str, str],
        progress: Callable[[int], None],
        *,
        resumed: bool,
    ) -> None:
        try:
            await writer.commit(descriptor.size, descriptor.digest, labels=labels)
        except AlreadyExists:
            return
        except FailedPrecondition as err:
            if not resumed:
                found = await writer.digest()
                raise DataLoss(
                    f"blob {descriptor.digest}: {fetcher.hosts} sent other bytes, {found}"
                ) from err
            # The older try may be to blame: once more from the beginning.
            await writer.truncate(0)
            await self._fill(writer, fetcher, descriptor, progress)
            await self._commit(writer, fetcher, descriptor, labels, progress, resumed=False)

    async def _abort(self, descriptor: Descriptor) -> None:
        try:
            await self._content.abort(ref_key(descriptor))
        except SampanError as err:
            log.debug("ingest was not aborted: blob=%s error=%s", descriptor.digest, err)


async def _by_ranges(
    fetcher: Fetcher, descriptor: Descriptor, offset: int, sink: _Sink, limits: Limits
) -> bool:
    """Fetch several ranges at once, and write them in order; False if the host has no ranges."""

    async def one(start: int) -> bytes:
        end = min(start + limits.range_bytes, descriptor.size)
        async with fetcher.fetch(descriptor, start, end - start) as stream:
            if stream.offset != start:
                raise Unimplemented(f"{stream.host} sends no ranges")
            return b"".join([chunk async for chunk in stream])

    waiting: deque[asyncio.Task[bytes]] = deque()
    try:
        async with asyncio.TaskGroup() as group:
            for start in range(offset, descriptor.size, limits.range_bytes):
                waiting.append(group.create_task(one(start)))
                if len(waiting) >= limits.ranges:
                    await sink(await waiting.popleft())
            while waiting:
                await sink(await waiting.popleft())
    except ExceptionGroup as several:
        error = first_error(several)
        if isinstance(error, Unimplemented):
            return False
        raise error from None
    return True


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that a TaskGroup ended with: the first that is no group itself."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
