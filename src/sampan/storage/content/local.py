"""Blobs and ingests as files of one folder.

    <root>/blobs/<algorithm>/<hex>      visible, verified, on disk; never written again
           labels/<algorithm>-<hex>     JSON, only where a blob has labels
           ingest/<sha256 of ref>/      ref data startedat total expected, and `lock`
           trash/                       what is deleted, until it is unlinked

A ref is held by an OFD lock on its folder's `lock` file, so that it ends with its process. A blob
appears by one rename, after its data is synced; the folder is synced after, and only then is the
commit answered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sampan.concurrency import Limit, to_thread
from sampan.concurrency.trace import trace
from sampan.errors import AlreadyExists, InvalidArgument, NotFound, OutOfRange, Unavailable
from sampan.linux import fds
from sampan.model import digest as digests
from sampan.model import filters as filter_language
from sampan.model.digest import Digest
from sampan.storage.content import Info, Status
from sampan.storage.content.ingest import LocalWriter
from sampan.storage.trees import remove_tree

__all__ = ["DISK", "LocalStore"]

DISK = Limit("content", 8)
"""Threads for the content store's files."""

_CHUNK = 1 << 20


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class LocalReader:
    """An open blob; see `content.Reader`."""

    def __init__(self, digest: Digest, fd: int) -> None:
        self.digest = digest
        self.size = os.fstat(fd).st_size
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    async def read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset > self.size:
            raise OutOfRange(f"content {self.digest}: no bytes at {offset}, size {self.size}")
        return await to_thread(os.pread, self._fd, length, offset, limit=DISK)

    async def chunks(self, offset: int = 0, length: int = -1) -> AsyncIterator[bytes]:
        end = self.size if length < 0 else min(self.size, offset + length)
        while offset < end:
            data = await self.read_at(offset, min(_CHUNK, end - offset))
            if not data:
                return
            offset += len(data)
            yield data

    async def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class LocalStore:
    """The content store of one root; see `content.Store`. Cheap to open, and safe to open twice."""

    def __init__(self, root: Path | str) -> None:
        """Open `root`, making what is missing. Blocks for a few file operations."""
        self.root = os.fspath(root)
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for name in ("blobs", "labels", "ingest", "trash", "blobs/sha256"):
            path = os.path.join(self.root, name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
        for name in ("", "blobs", "labels", "ingest", "trash"):
            os.chmod(os.path.join(self.root, name), 0o700)

    # Blobs.

    async def info(self, digest: Digest) -> Info:
        return await to_thread(self._info, digest, limit=DISK)

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        return await to_thread(self._update, info, tuple(fieldpaths), limit=DISK)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        wanted = filter_language.parse_all(filters)
        for digest in await to_thread(self._digests, limit=DISK):
            try:
                info = await to_thread(self._info, digest, limit=DISK)
            except NotFound:
                continue
            if wanted.match(info):
                yield info

    async def delete(self, digest: Digest) -> None:
        await to_thread(self._delete, digest, limit=DISK)

    async def reader(self, digest: Digest) -> LocalReader:
        # One open(2) of a local file: quicker than the way to a thread, which may return no fd.
        try:
            fd = os.open(self.blob_path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"content {digest}: no such blob") from None
        return LocalReader(digest, fd)

    # Ingests.

    async def writer(
        self, ref: str, *, expected: Digest | None = None, total: int = 0
    ) -> LocalWriter:
        if not ref or "\0" in ref:
            raise InvalidArgument("content ingest: the ref must not be empty")
        if expected is not None and self.size_of(expected) is not None:
            with contextlib.suppress(NotFound, Unavailable):
                await self.abort(ref)
            raise AlreadyExists(f"content {expected}: exists")
        writer = LocalWriter(self, ref, expected, total)
        try:
            await to_thread(writer.open, limit=DISK)
        except BaseException:
            await writer.close()
            raise
        return writer

    async def status(self, ref: str) -> Status:
        return await to_thread(self._status, self.ingest_path(ref), limit=DISK)

    async def list_statuses(self, filters: Sequence[str] = ()) -> list[Status]:
        wanted = filter_language.parse_all(filters)
        return [one for one in await to_thread(self._statuses, limit=DISK) if wanted.match(one)]

    async def abort(self, ref: str) -> None:
        await to_thread(self._abort, ref, limit=DISK)

    async def cleanup(self) -> None:
        await to_thread(self._cleanup, limit=DISK)

    async def close(self) -> None:
        """Do nothing: open readers and writers are their callers'."""

    # Paths.

    def blob_path(self, digest: Digest) -> str:
        """Return where the blob is or will be."""
        digests.parse(digest)
        return os.path.join(self.root, "blobs", digests.algorithm(digest), digests.encoded(digest))

    def ingest_path(self, ref: str) -> str:
        """Return the folder of an ingest: hashed, as a ref may be long and may contain `/`."""
        return os.path.join(self.root, "ingest", hashlib.sha256(os.fsencode(ref)).hexdigest())

    def _labels_path(self, digest: Digest) -> str:
        return os.path.join(self.root, "labels", digest.replace(":", "-"))

    def trash(self, digest: Digest) -> bool:
        try:
            self._to_trash(self.blob_path(digest))
        except FileNotFoundError:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._labels_path(digest))
        return True

    def size_of(self, digest: Digest) -> int | None:
        try:
            return os.stat(self.blob_path(digest)).st_size
        except FileNotFoundError:
            return None

    def discard(self, path: str) -> None:
        """Move `path` away under the name of nothing, then remove it.

        Raises:
          FileNotFoundError: it is gone already.
        """
        remove_tree(self._to_trash(path))

    def _to_trash(self, path: str) -> str:
        gone = os.path.join(self.root, "trash", os.urandom(12).hex())
        os.rename(path, gone)
        trace("content.trashed")
        return gone

    # What threads do.

    def _info(self, digest: Digest) -> Info:
        try:
            status = os.stat(self.blob_path(digest))
        except FileNotFoundError:
            raise NotFound(f"content {digest}: no such blob") from None
        created = updated = _when(status.st_mtime)
        labels: dict[str, str] = {}
        try:
            with open(self._labels_path(digest), "rb") as file:
                labels = json.load(file)
                updated = max(created, _when(os.fstat(file.fileno()).st_mtime))
        except FileNotFoundError:
            pass
        return Info(digest, status.st_size, created, updated, labels)

    def _update(self, info: Info, paths: tuple[str, ...]) -> Info:
        with open(os.path.join(self.root, "labels", ".lock"), "ab") as lock:
            fds.lock(lock.fileno(), wait=True)
            old = self._info(info.digest)
            labels = dict(old.labels)
            for path in paths or ("labels",):
                if path == "labels":
                    labels = dict(info.labels)
                elif path.startswith("labels."):
                    key = path[len("labels.") :]
                    if info.labels.get(key):
                        labels[key] = info.labels[key]
                    else:
                        labels.pop(key, None)
                else:
                    raise InvalidArgument(f"content {info.digest}: {path!r} cannot be changed")
            self.write_labels(info.digest, labels)
        return self._info(info.digest)

    def write_labels(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Replace all labels of a blob."""
        path = self._labels_path(digest)
        temporary = f"{path}.{os.urandom(6).hex()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({key: value for key, value in labels.items() if value}, file)
        os.rename(temporary, path)

    def _digests(self) -> list[Digest]:
        found = []
        for algorithm in os.listdir(os.path.join(self.root, "blobs")):
            found += [
                Digest(f"{algorithm}:{name}")
                for name in os.listdir(os.path.join(self.root, "blobs", algorithm))
            ]
        return found

    def _delete(self, digest: Digest) -> None:
        try:
            self.discard(self.blob_path(digest))
        except FileNotFoundError:
            raise NotFound(f"content {digest}: no such blob") from None
        trace("content.deleted")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._labels_path(digest))

    def _status(self, folder: str) -> Status:
        try:
            ref = _text(folder, "ref")
            data = os.stat(os.path.join(folder, "data"))
            started = float(_text(folder, "startedat"))
            total = int(_text(folder, "total") or "0")
            expected = _text(folder, "expected")
        except (FileNotFoundError, ValueError):
            raise NotFound(f"content ingest: none in {os.path.basename(folder)}") from None
        return Status(
            ref,
            data.st_size,
            total,
            digests.parse(expected) if expected else None,
            _when(started),
            _when(max(started, data.st_mtime)),
        )

    def _statuses(self) -> list[Status]:
        found = []
        folder = os.path.join(self.root, "ingest")
        for name in os.listdir(folder):
            with contextlib.suppress(NotFound):
                found.append(self._status(os.path.join(folder, name)))
        return found

    def _abort(self, ref: str) -> None:
        folder = self.ingest_path(ref)
        try:
            fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"content ingest {ref!r}: no such ref") from None
        try:
            if not fds.lock(fd):
                raise Unavailable(f"content ingest {ref!r}: being written")
            with contextlib.suppress(FileNotFoundError):
                self.discard(folder)
        finally:
            os.close(fd)

    def _cleanup(self) -> None:
        trash = os.path.join(self.root, "trash")
        for name in os.listdir(trash):
            remove_tree(os.path.join(trash, name))
        folder = os.path.join(self.root, "ingest")
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            try:
                self._status(path)
            except NotFound:
                self._drop_unnamed(path)
        known = {digest.replace(":", "-") for digest in self._digests()}
        labels = os.path.join(self.root, "labels")
        for name in os.listdir(labels):
            if name != ".lock" and name.partition(".")[0] not in known:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(labels, name))

    def _drop_unnamed(self, path: str) -> None:
        """Remove an ingest that died before its files were written, unless somebody holds it."""
        try:
            fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return
        try:
            if fds.lock(fd):
                with contextlib.suppress(FileNotFoundError):
                    self.discard(path)
        finally:
            os.close(fd)


def _text(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
