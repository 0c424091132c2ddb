"""Content as one namespace sees it: the bare store's Protocol over the rows of this namespace.

    writer(ref)   row in ingests, then the bare ingest `<namespace>/<ref>`
    commit        1. the ingest's row names the digest and this process   guards the blob from GC
                  2. the bare store verifies and publishes the blob
                  3. row in content, row of the ingest gone, lease, in one transaction

Killed after 1 or 2, the ingest or a blob without row is left; the next collection frees the blob,
for the guard's owner is dead. A row whose blob is missing (only a crash of the machine during a
collection can leave one) counts as absent.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from sampan import context
from sampan.concurrency import shielded
from sampan.concurrency.trace import trace
from sampan.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    SampanError,
    Unavailable,
)
from sampan.metadata import SharingPolicy, labels
from sampan.metadata.core import Core, at, ensure_namespace, keep_by_lease, namespace, now_us
from sampan.metadata.db import Tx
from sampan.model import filters
from sampan.model.digest import Digest
from sampan.storage.content import BareStore, Info, Reader, Status, Writer

__all__ = ["ContentView"]

log = logging.getLogger(__name__)

SHAREABLE_LABEL: Final = "containerd.io/namespace.shareable"
_INGEST_LIFE_US: Final = 24 * 3600 * 1_000_000
"""How long an ingest that no lease holds waits for its next writer, as in containerd."""
_COLUMNS: Final = "digest, size, labels, created_us, updated_us"
_HERE: Final = -1
"""No size: the namespace has the blob already."""


class ContentView:
    """The content store of the namespace of the request. It does not own the bare store."""

    def __init__(
        self, core: Core, bare: BareStore, sharing: SharingPolicy = SharingPolicy.SHARED
    ) -> None:
        self._core = core
        self._bare = bare
        self._sharing = sharing

    async def info(self, digest: Digest) -> Info:
        where = namespace()
        return await self._core.db.view(lambda tx: self._get(tx, where, digest))

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        where = namespace()
        labels.paths_of(fieldpaths, ("labels",), f"content {info.digest}")

        def write(tx: Tx) -> Info:
            old = self._get(tx, where, info.digest)
            new = labels.merged(old.labels, info.labels, fieldpaths)
            tx.execute(
                "UPDATE content SET labels = ?, updated_us = ? WHERE namespace = ? AND digest = ?",
                (labels.dump(new), now_us(), where, info.digest),
            )
            return self._get(tx, where, info.digest)

        return await self._core.write(write, deletes=True)

    async def walk(self, filters_: Sequence[str] = ()) -> AsyncIterator[Info]:
        where, wanted = namespace(), filters.parse_all(filters_)

        def rows(tx: Tx) -> list[Info]:
            found = tx.execute(
                f"SELECT {_COLUMNS} FROM content WHERE namespace = ? ORDER BY digest",  # noqa: S608
                (where,),
            )
            return [_info(row) for row in found]

        for info in await self._core.db.view(rows):
            if wanted.match(info):
                yield info

    async def delete(self, digest: Digest) -> None:
        where = namespace()

        def write(tx: Tx) -> None:
            self._get(tx, where, digest)
            tx.execute("DELETE FROM content WHERE namespace = ? AND digest = ?", (where, digest))

        # The bytes go with the next collection: another commit may want them at this moment.
        await self._core.write(write, deletes=True)
        self._core.publish(where, "/content/delete", "ContentDelete", digest=digest)

    async def reader(self, digest: Digest) -> Reader:
        await self.info(digest)
        return await self._bare.reader(digest)

    async def writer(self, ref: str, *, expected: Digest | None = None, total: int = 0) -> Writer:
        where, lease = namespace(), context.lease()

        def begin(tx: Tx) -> int | None:
            """Note the ingest; return the size if this namespace may have the blob as it is."""
            if expected is not None and self._has(tx, where, expected):
                # Found is as good as fetched: until something refers to it, the lease keeps it.
                keep_by_lease(tx, where, lease, "content", expected)
                return _HERE
            self._check_unpublished(tx, where, ref)
            ensure_namespace(tx, where)
            tx.execute(
                "INSERT INTO ingests (namespace, ref, expected, expire_us) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (namespace, ref) DO UPDATE SET expire_us = excluded.expire_us",
                (where, ref, expected or "", now_us() + _INGEST_LIFE_US),
            )
            keep_by_lease(tx, where, lease, "ingests", ref)
            return self._shared_size(tx, expected) if expected is not None else None

        size = await self._core.write(begin)
        if size == _HERE:
            # As the Protocol promises: an ingest of a blob that is here is dropped.
            await self._drop(where, ref)
            raise AlreadyExists(f"content {expected}: already exists")
        shared = size is not None and total in (0, size)
        bare = None if shared else await self._open(where, ref, total)
        return _Writer(self, where, ref, lease, expected, bare, size or 0)

    async def status(self, ref: str) -> Status:
        where = namespace()
        await self._core.db.view(lambda tx: _ingest(tx, where, ref))
        return _renamed(await self._bare.status(f"{where}/{ref}"), ref)

    async def list_statuses(self, filters_: Sequence[str] = ()) -> list[Status]:
        prefix, wanted = f"{namespace()}/", filters.parse_all(filters_)
        mine = [
            _renamed(one, one.ref.removeprefix(prefix))
            for one in await self._bare.list_statuses()
            if one.ref.startswith(prefix)
        ]
        return [one for one in mine if wanted.match(one)]

    async def abort(self, ref: str) -> None:
        where = namespace()
        await self._core.db.view(lambda tx: _ingest(tx, where, ref))
        await self._bare.abort(f"{where}/{ref}")
        await self._core.write(lambda tx: _forget_ingest(tx, where, ref))

    async def cleanup(self) -> None:
        await self._bare.cleanup()

    async def close(self) -> None:
        """Do nothing: the bare store is its opener's."""

    async def _open(self, where: str, ref: str, total: int = 0) -> Writer:
        # Without `expected`: the bare store may have the blob where this namespace has not.
        return await self._bare.writer(f"{where}/{ref}", total=total)

    async def _drop(self, where: str, ref: str) -> None:
        try:
            await self._bare.abort(f"{where}/{ref}")
        except SampanError:
            return
        await self._core.write(lambda tx: _forget_ingest(tx, where, ref))

    def _check_unpublished(self, tx: Tx, where: str, ref: str) -> None:
        """Refuse a ref whose blob is published already, while a live process writes its row."""
        row = tx.execute(
            "SELECT committing, owner FROM ingests WHERE namespace = ? AND ref = ?", (where, ref)
        ).fetchone()
        if row is not None and row[0] and self._core.owners.is_alive(row[1]):
            raise Unavailable(f"content ingest {ref!r}: is being committed")

    def _has(self, tx: Tx, where: str, digest: str) -> bool:
        row = tx.execute(
            "SELECT 1 FROM content WHERE namespace = ? AND digest = ?", (where, digest)
        ).fetchone()
        return row is not None and self._bare.size_of(Digest(digest)) is not None

    def _shared_size(self, tx: Tx, digest: Digest) -> int | None:
        if self._sharing is SharingPolicy.ISOLATED:
            found = tx.execute(
                "SELECT n.labels FROM content c JOIN namespaces n ON n.name = c.namespace"
                " WHERE c.digest = ?",
                (digest,),
            )
            if not any(labels.load(text).get(SHAREABLE_LABEL) == "true" for (text,) in found):
                return None
        elif not tx.execute("SELECT 1 FROM content WHERE digest = ?", (digest,)).fetchone():
            # A blob without any row is garbage about to go, not content.
            return None
        return self._bare.size_of(digest)

    def _get(self, tx: Tx, where: str, digest: Digest) -> Info:
        row = tx.execute(
            f"SELECT {_COLUMNS} FROM content WHERE namespace = ? AND digest = ?",  # noqa: S608
            (where, digest),
        ).fetchone()
        if row is None or self._bare.size_of(digest) is None:
            raise NotFound(f"content digest {digest}: not found")
        return _info(row)

    async def guard(self, where: str, ref: str, digest: str) -> None:
        """Write down that this process is about to publish a blob; empty takes it back."""

        def write(tx: Tx) -> None:
            tx.execute(
                "UPDATE ingests SET committing = ?, owner = ? WHERE namespace = ? AND ref = ?",
                (digest, self._core.owners.id if digest else "", where, ref),
            )

        await self._core.db.update(write)

    async def record(
        self, where: str, ref: str, lease: str | None, digest: Digest, new: Mapping[str, str]
    ) -> Info:
        """Let the published blob be visible here, and end the ingest."""

        def write(tx: Tx) -> Info | None:
            size = self._bare.size_of(digest)
            if size is None:
                raise Aborted(f"content {digest} was removed while it was committed: write it anew")
            _forget_ingest(tx, where, ref)
            ensure_namespace(tx, where)
            keep_by_lease(tx, where, lease, "content", digest)
            now = now_us()
            done = tx.execute(
                f"INSERT OR IGNORE INTO content (namespace, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                (where, digest, size, labels.dump(new), now, now),
            )
            return self._get(tx, where, digest) if done.rowcount else None

        info = await self._core.write(write)
        if info is None:
            raise AlreadyExists(f"content {digest}: already exists")
        self._core.publish(where, "/content/create", "ContentCreate", digest=digest, size=info.size)
        return info

    async def reopen(self, where: str, ref: str) -> Writer:
        """Open the bare ingest after all: the caller wants to bring the bytes himself."""
        return await self._open(where, ref)


class _Writer:
    """A bare writer, or, when the blob is shared, none: then it is complete from the start."""

    def __init__(
        self,
        view: ContentView,
        where: str,
        ref: str,
        lease: str | None,
        expected: Digest | None,
        bare: Writer | None,
        size: int,
    ) -> None:
        self._view = view
        self._where = where
        self._ref = ref
        self._lease = lease
        self._expected = expected
        self._bare = bare
        self._size = size
        self._started = datetime.now(UTC)
        self._done = False

    @property
    def ref(self) -> str:
        return self._ref

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        if self._done:
            raise FailedPrecondition(f"ingest {self._ref!r}: the writer is closed or committed")
        if self._bare is not None:
            return await self._bare.write(data)
        if len(data):
            raise OutOfRange(f"ingest {self._ref!r} is complete: commit it, or truncate it to 0")
        return self._size

    async def digest(self, algorithm: str = "") -> Digest:
        if self._bare is not None:
            return await self._bare.digest(algorithm)
        assert self._expected is not None  # noqa: S101 - only named blobs are shared
        return self._expected

    async def status(self) -> Status:
        if self._bare is not None:
            found = await self._bare.status()
            return _renamed(found, self._ref, self._expected)
        return Status(
            self._ref, self._size, self._size, self._expected, self._started, self._started
        )

    async def truncate(self, offset: int) -> None:
        if self._bare is None:
            if offset == self._size:
                return
            if offset:
                raise OutOfRange(f"ingest {self._ref!r} is complete: truncate it to 0 only")
            self._bare = await self._view.reopen(self._where, self._ref)
        await self._bare.truncate(offset)

    async def commit(
        self,
        size: int = 0,
        expected: Digest | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Info:
        if self._done:
            raise FailedPrecondition(f"ingest {self._ref!r}: the writer is closed or committed")
        new = _checked(labels)
        wanted = (size or self._size, expected or self._expected)
        if self._bare is None and wanted != (self._size, self._expected):
            raise FailedPrecondition(
                f"ingest {self._ref!r} is {self._expected} of {self._size} bytes,"
                f" not {wanted[1]} of {wanted[0]}"
            )
        digest = expected or self._expected or await self.digest()
        await self._view.guard(self._where, self._ref, digest)
        trace("content.guarded")
        # From here to the row, cancellation would leave a blob that only a collection can free.
        return await shielded(60, self._publish(digest, size, new))

    async def _publish(self, digest: Digest, size: int, new: Mapping[str, str]) -> Info:
        try:
            if self._bare is not None:
                try:
                    await self._bare.commit(size, digest)
                except AlreadyExists:
                    log.debug("content was here already: digest=%s", digest)
            trace("content.published")
            self._done = True
            return await self._view.record(self._where, self._ref, self._lease, digest, new)
        except BaseException:
            # Else nobody could open the ref again while this process lives.
            await self._view.guard(self._where, self._ref, "")
            raise

    async def close(self) -> None:
        self._done = True
        if self._bare is not None:
            await self._bare.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _checked(new: Mapping[str, str] | None) -> dict[str, str]:
    return labels.check(new or {})


def _ingest(tx: Tx, where: str, ref: str) -> None:
    row = tx.execute("SELECT 1 FROM ingests WHERE namespace = ? AND ref = ?", (where, ref))
    if row.fetchone() is None:
        raise NotFound(f"ingest {ref!r}: not found")


def _forget_ingest(tx: Tx, where: str, ref: str) -> None:
    tx.execute("DELETE FROM ingests WHERE namespace = ? AND ref = ?", (where, ref))
    tx.execute(
        "DELETE FROM lease_resources WHERE namespace = ? AND type = 'ingests' AND id = ?",
        (where, ref),
    )


def _renamed(status: Status, ref: str, expected: Digest | None = None) -> Status:
    return Status(
        ref,
        status.offset,
        status.total,
        status.expected or expected,
        status.started_at,
        status.updated_at,
    )


def _info(row: tuple[Any, ...]) -> Info:
    digest, size, text, created, updated = row
    return Info(Digest(digest), size, at(created), at(updated), labels.load(text))
