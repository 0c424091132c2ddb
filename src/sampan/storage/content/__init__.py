"""The content store: immutable bytes, named by their digest, written through resumable ingests.

A blob comes into being in one way only. A *writer* is opened under a *ref*, any name that the
caller will find again after a crash (`layer-sha256:…`); it locks the ref, also against other
processes. Bytes are appended; `commit` checks size and digest, and only then does the blob exist:

    async with await store.writer("layer-1", expected=digest, total=size) as writer:
        status = await writer.status()          # offset > 0: an earlier try was cut; go on there
        await writer.write(chunk)               # as often as needed
        await writer.commit(size, digest, labels={...})

- `expected` is there already: `writer` raises AlreadyExists. Somebody writes the ref: Unavailable.
- A commit that fails its check raises FailedPrecondition and *keeps the ingest*: more bytes, or a
  commit with the right digest, may follow. Only `abort` and a good commit end it.
- `close` releases the lock and keeps what was written. Offset, running digest, total and
  `started_at` are the same when the ref is opened again, in this process or the next.

Readers hold the blob's file: a delete takes its name away, and what is open reads on.

Source: containerd core/content/content.go and api content/v1 for words and error classes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from sampan.model.digest import Digest

__all__ = ["BareStore", "Info", "Reader", "Status", "Store", "Writer"]


@dataclass(frozen=True, slots=True)
class Info:
    """A blob that exists. Times are aware, in UTC."""

    digest: Digest
    size: int
    created_at: datetime
    updated_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter (`model.filters`) about `digest`, `size` or `labels.<key>`."""
        match list(path):
            case ["digest"]:
                return self.digest, True
            case ["size"]:
                return str(self.size), True
            case ["labels", *key] if key:
                value = self.labels.get(".".join(key))
                return value or "", value is not None
            case _:
                return "", False


@dataclass(frozen=True, slots=True)
class Status:
    """An ingest that goes on."""

    ref: str
    offset: int
    """Bytes received, and where the next ones go."""
    total: int
    """Bytes expected in the end; 0 when unknown."""
    expected: Digest | None
    started_at: datetime
    updated_at: datetime

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `ref`."""
        return (self.ref, True) if list(path) == ["ref"] else ("", False)


@runtime_checkable
class Reader(Protocol):
    """An open blob. It reads on after the blob's deletion; close it, or use it in `async with`."""

    @property
    def digest(self) -> Digest: ...

    @property
    def size(self) -> int: ...

    def fileno(self) -> int:
        """Return the fd of the file, owned by this reader: to pass to a worker, or to sendfile."""
        ...

    async def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end, none past it.

        Raises:
          OutOfRange: offset or length is negative, or the offset lies past the end.
        """
        ...

    def chunks(self, offset: int = 0, length: int = -1) -> AsyncIterator[bytes]:
        """Yield the range in pieces of about a MiB; -1 is to the end."""
        ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Writer(Protocol):
    """The one writer of a ref. Calls must not overlap. Cancelled, it stays consistent."""

    @property
    def ref(self) -> str: ...

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append `data`; return the new offset.

        Raises:
          ResourceExhausted: the disk is full; what fitted is kept.
          FailedPrecondition: the writer is closed or committed.
        """
        ...

    async def digest(self, algorithm: str = "") -> Digest:
        """Return the digest of what was written, in the algorithm of `expected`, or sha256."""
        ...

    async def status(self) -> Status: ...

    async def truncate(self, offset: int) -> None:
        """Cut back to `offset`.

        Raises:
          OutOfRange: offset is negative or past what was written.
        """
        ...

    async def commit(
        self,
        size: int = 0,
        expected: Digest | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Info:
        """Verify, make the blob visible and durable, and end the ingest.

        Args:
          size: Bytes there must be; 0 is any.
          expected: The digest it must have; None is that given to `writer`, or any.
          labels: First labels of a new blob.

        Raises:
          FailedPrecondition: size or digest differ; the ingest survives.
          AlreadyExists: the blob was there; the ingest is gone all the same.
        """
        ...

    async def close(self) -> None:
        """Release the ref; what is not committed stays for a later writer. Idempotent."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Store(Protocol):
    """Blobs and ingests below one root. Every call may come from several processes at once."""

    async def info(self, digest: Digest) -> Info:
        """Describe a blob.

        Raises:
          NotFound: no such blob.
        """
        ...

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels: all of them, or with paths (`labels`, `labels.<key>`) those named.

        A key that is named and has no value in `info` is deleted.

        Raises:
          NotFound: no such blob.
          InvalidArgument: a path names something immutable.
        """
        ...

    def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        """Yield the blobs that match any of the filters, or all, in no order."""
        ...

    async def delete(self, digest: Digest) -> None:
        """Take the blob away.

        Raises:
          NotFound: no such blob.
        """
        ...

    async def reader(self, digest: Digest) -> Reader:
        """Open a blob.

        Raises:
          NotFound: no such blob.
        """
        ...

    async def writer(self, ref: str, *, expected: Digest | None = None, total: int = 0) -> Writer:
        """Begin or resume the ingest `ref`.

        Raises:
          InvalidArgument: the ref is empty, or `total` contradicts the ingest.
          Unavailable: another writer holds the ref.
          AlreadyExists: the expected blob is there; an ingest of this ref is aborted.
        """
        ...

    async def status(self, ref: str) -> Status:
        """Describe an ingest.

        Raises:
          NotFound: no such ingest.
        """
        ...

    async def list_statuses(self, filters: Sequence[str] = ()) -> list[Status]: ...

    async def abort(self, ref: str) -> None:
        """Drop an ingest and its bytes.

        Raises:
          NotFound: no such ingest.
          Unavailable: a writer holds it.
        """
        ...

    async def cleanup(self) -> None:
        """Remove the trash, and ingests that died before they had a name."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class BareStore(Store, Protocol):
    """A store with what only `metadata`'s views of it need."""

    def trash(self, digest: Digest) -> bool:
        """Take the blob's name away at once; False if it had none.

        A rename into the trash folder, in the calling thread, whatever thread that is: `metadata`
        calls it inside the transaction that deletes the blob's last row. `cleanup` frees the bytes.
        """
        ...

    def size_of(self, digest: Digest) -> int | None:
        """Return the blob's size in bytes, None if there is no such blob; in the calling thread.

        `metadata` asks again inside the transaction that adds a row.
        """
        ...
