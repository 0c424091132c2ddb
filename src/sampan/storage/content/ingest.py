"""The writer of one ref: its lock, its files, its running digest, and the commit."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sampan.concurrency import to_thread
from sampan.concurrency.trace import trace
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
)
from sampan.linux import fds
from sampan.model import digest as digests
from sampan.model.digest import Digest
from sampan.storage.content import Info, Status

if TYPE_CHECKING:
    from sampan.storage.content.local import LocalStore

__all__ = ["LocalWriter"]


class LocalWriter:
    """See `content.Writer`. Made by `LocalStore.writer`, which also opens it."""

    def __init__(self, store: LocalStore, ref: str, expected: Digest | None, total: int) -> None:
        self.ref = ref
        self._store = store
        self._expected = expected
        self._total = total
        self._folder = store.ingest_path(ref)
        self._lock = -1
        self._fd = -1
        self._offset = 0
        self._hash = digests.hasher(expected or "sha256")

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        self._require_open()
        await to_thread(self._write, data)
        return self._offset

    async def digest(self, algorithm: str = "") -> Digest:
        self._require_open()
        own = digests.algorithm(self._expected) if self._expected else "sha256"
        if algorithm in ("", own):
            return Digest(f"{own}:{self._hash.hexdigest()}")
        return await to_thread(self._rehashed, algorithm)

    async def status(self) -> Status:
        return await self._store.status(self.ref)

    async def truncate(self, offset: int) -> None:
        self._require_open()
        if not 0 <= offset <= self._offset:
            raise OutOfRange(
                f"content ingest {self.ref!r}: cannot cut to {offset}, has {self._offset} bytes"
            )
        if offset != self._offset:
            await to_thread(self._truncate, offset)

    async def commit(
        self,
        size: int = 0,
        expected: Digest | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Info:
        self._require_open()
        wanted = expected or self._expected
        digest = await self.digest(digests.algorithm(wanted) if wanted else "")
        if size and size != self._offset:
            raise FailedPrecondition(
                f"ingest {self.ref!r}: unexpected commit size {self._offset}, expected {size}"
            )
        if wanted and digest != wanted:
            raise FailedPrecondition(
                f"ingest {self.ref!r}: unexpected commit digest {digest}, expected {wanted}"
            )
        await to_thread(self._commit, digest, dict(labels or {}))
        return await self._store.info(digest)

    async def close(self) -> None:
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _require_open(self) -> None:
        if self._fd < 0:
            raise FailedPrecondition(f"content ingest {self.ref!r}: the writer is closed")

    # What threads do.

    def open(self) -> None:
        """Take the ref and what is there of it. Blocking; called once, by the store."""
        for _ in range(100):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
            lock_path = os.path.join(self._folder, "lock")
            try:
                fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue
            if not fds.lock(fd):
                os.close(fd)
                raise Unavailable(f"content ingest {self.ref!r}: another writer holds it")
            self._lock = fd
            try:
                same = os.path.samestat(os.fstat(fd), os.stat(lock_path))
            except FileNotFoundError:
                same = False
            if same:
                break
            # The folder went to the trash between our open and our lock.
            os.close(fd)
            self._lock = -1
        else:
            raise Unavailable(f"content ingest {self.ref!r}: it keeps being removed")
        trace("content.locked")
        self._read_or_begin()

    def _read_or_begin(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        path = os.path.join(self._folder, "data")
        if os.path.exists(os.path.join(self._folder, "startedat")):
            with open(os.path.join(self._folder, "total"), encoding="ascii") as file:
                total = int(file.read() or "0")
            if self._total and total != self._total:
                self._put("total", str(self._total))
            if self._expected is not None:
                self._put("expected", self._expected)
            self._fd = os.open(path, flags, 0o600)
            self._rehash()
            return
        self._fd = os.open(path, flags | os.O_TRUNC, 0o600)
        self._put("ref", self.ref)
        self._put("total", str(self._total))
        self._put("expected", self._expected or "")
        # Last: an ingest is one only with this file.
        self._put("startedat", repr(time.time()))
        trace("content.begun")

    def _put(self, name: str, text: str) -> None:
        path = os.path.join(self._folder, name)
        with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                done = os.pwrite(self._fd, view, self._offset)
            except OSError as err:
                if err.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise ResourceExhausted(
                        f"content ingest {self.ref!r}: no space at byte {self._offset}"
                    ) from err
                raise
            self._hash.update(view[:done])
            self._offset += done
            view = view[done:]

    def _truncate(self, offset: int) -> None:
        os.ftruncate(self._fd, offset)
        self._rehash()

    def _rehash(self) -> None:
        """Set offset and running digest from the file, as a new process must."""
        own = digests.hasher(self._expected or "sha256")
        self._offset = self._feed(own)
        self._hash = own

    def _rehashed(self, algorithm: str) -> Digest:
        other = digests.hasher(algorithm)
        self._feed(other)
        return Digest(f"{algorithm}:{other.hexdigest()}")

    def _feed(self, hash: digests.Hash) -> int:
        at = 0
        while data := os.pread(self._fd, 1 << 20, at):
            hash.update(data)
            at += len(data)
        return at

    def _commit(self, digest: Digest, labels: dict[str, str]) -> None:
        blob = self._store.blob_path(digest)
        data = os.path.join(self._folder, "data")
        trace("content.verified")
        if os.path.exists(blob):
            self._end()
            raise AlreadyExists(f"content {digest}: exists")
        os.fsync(self._fd)
        os.fchmod(self._fd, 0o400)
        os.utime(self._fd)
        trace("content.synced")
        folder = os.path.dirname(blob)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        if labels:
            # Before the blob, so that it never shows without them; cleanup finds orphans.
            self._store.write_labels(digest, labels)
        os.rename(data, blob)
        trace("content.renamed")
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        trace("content.committed")
        self._end()

    def _end(self) -> None:
        self._store.discard(self._folder)
        os.close(self._fd)
        self._fd = -1
        os.close(self._lock)
        self._lock = -1
