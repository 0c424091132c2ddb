"""Bare stores that keep plain files: just enough of storage's Protocols to test metadata upon.

Durable steps are renames, as in the real ones, and pass `trace`: crash tests kill here, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sampan.concurrency.trace import trace
from sampan.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from sampan.model import digest as digests
from sampan.model.digest import Digest
from sampan.model.mounts import Mount
from sampan.storage.content import Info as BlobInfo
from sampan.storage.content import Reader, Status
from sampan.storage.content import Writer as WriterProtocol
from sampan.storage.snapshots import Info, Kind, Usage

NOW = datetime.fromtimestamp(1, UTC)


class FolderContent:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("blobs", "ingest", "trash"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.held: set[str] = set()

    def blob(self, digest: str) -> Path:
        return self.root / "blobs" / digest

    def ingest(self, ref: str) -> Path:
        return self.root / "ingest" / ref.replace("/", "%")

    def size_of(self, digest: Digest) -> int | None:
        try:
            return self.blob(digest).stat().st_size
        except FileNotFoundError:
            return None

    def trash(self, digest: Digest) -> bool:
        try:
            os.rename(self.blob(digest), self.root / "trash" / digest)
        except FileNotFoundError:
            return False
        trace("bare.trashed")
        return True

    async def info(self, digest: Digest) -> BlobInfo:
        size = self.size_of(digest)
        if size is None:
            raise NotFound(digest)
        return BlobInfo(digest, size, NOW, NOW)

    async def update(self, info: BlobInfo, fieldpaths: Sequence[str] = ()) -> BlobInfo:
        return info

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[BlobInfo]:
        for name in os.listdir(self.root / "blobs"):
            size = self.size_of(Digest(name))
            if size is not None:
                yield BlobInfo(Digest(name), size, NOW, NOW)

    async def delete(self, digest: Digest) -> None:
        if not self.trash(digest):
            raise NotFound(digest)

    async def reader(self, digest: Digest) -> Reader:
        raise NotImplementedError

    async def writer(
        self, ref: str, *, expected: Digest | None = None, total: int = 0
    ) -> WriterProtocol:
        if ref in self.held:
            raise Unavailable(ref)
        self.held.add(ref)
        return FolderWriter(self, ref, expected)

    async def status(self, ref: str) -> Status:
        try:
            size = self.ingest(ref).stat().st_size
        except FileNotFoundError:
            raise NotFound(ref) from None
        return Status(ref, size, 0, None, NOW, NOW)

    async def list_statuses(self, filters: Sequence[str] = ()) -> list[Status]:
        names = os.listdir(self.root / "ingest")
        return [await self.status(name.replace("%", "/")) for name in names]

    async def abort(self, ref: str) -> None:
        if ref in self.held:
            raise Unavailable(ref)
        try:
            self.ingest(ref).unlink()
        except FileNotFoundError:
            raise NotFound(ref) from None

    async def cleanup(self) -> None:
        for name in os.listdir(self.root / "trash"):
            (self.root / "trash" / name).unlink(missing_ok=True)

    async def close(self) -> None: ...


class FolderWriter:
    def __init__(self, store: FolderContent, ref: str, expected: Digest | None) -> None:
        self.store = store
        self.ref_ = ref
        self.expected = expected
        store.ingest(ref).touch()

    @property
    def ref(self) -> str:
        return self.ref_

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        with self.store.ingest(self.ref).open("ab") as file:
            file.write(data)
            return file.tell()

    async def digest(self, algorithm: str = "") -> Digest:
        return digests.of_bytes(self.store.ingest(self.ref).read_bytes())

    async def status(self) -> Status:
        return await self.store.status(self.ref)

    async def truncate(self, offset: int) -> None:
        os.truncate(self.store.ingest(self.ref), offset)

    async def commit(
        self,
        size: int = 0,
        expected: Digest | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        digest = await self.digest()
        if expected not in (None, digest):
            raise FailedPrecondition(f"{digest} is not {expected}")
        if self.store.size_of(digest) is not None:
            self.store.ingest(self.ref).unlink()
            raise AlreadyExists(digest)
        trace("bare.commit")
        os.rename(self.store.ingest(self.ref), self.store.blob(digest))
        trace("bare.committed")
        return await self.store.info(digest)

    async def close(self) -> None:
        self.store.held.discard(self.ref)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class FolderSnapshots:
    """Each snapshot is one JSON file, named by its escaped key."""

    capabilities = frozenset({"rebase"})

    def __init__(self, root: Path, name: str = "folder") -> None:
        self.root = root
        self.name = name
        root.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        return self.root / key.replace("%", "%25").replace("/", "%2f")

    def load(self, key: str) -> Info:
        try:
            kind, parent = json.loads(self.path(key).read_text())
        except FileNotFoundError:
            raise NotFound(f"bare snapshot {key}") from None
        return Info(Kind(kind), key, parent, NOW, NOW)

    def save(self, key: str, kind: Kind, parent: str) -> None:
        new = self.root / f".{os.getpid()}"
        new.write_text(json.dumps([kind.value, parent]))
        os.rename(new, self.path(key))

    def names(self) -> list[str]:
        found = [name for name in os.listdir(self.root) if not name.startswith(".")]
        return [name.replace("%2f", "/").replace("%25", "%") for name in found]

    async def stat(self, key: str) -> Info:
        return self.load(key)

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        return info

    async def usage(self, key: str) -> Usage:
        self.load(key)
        return Usage(1, 4096)

    async def mounts(self, key: str) -> list[Mount]:
        self.load(key)
        return [Mount("bind", str(self.path(key)))]

    async def prepare(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return await self.make(Kind.ACTIVE, key, parent)

    async def view(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return await self.make(Kind.VIEW, key, parent)

    async def make(self, kind: Kind, key: str, parent: str) -> list[Mount]:
        if parent:
            self.load(parent)
        if self.path(key).exists():
            raise AlreadyExists(key)
        self.save(key, kind, parent)
        trace("bare.prepared")
        return await self.mounts(key)

    async def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        old = self.load(key)
        self.save(name, Kind.COMMITTED, parent or old.parent)
        self.path(key).unlink()
        trace("bare.renamed")

    async def remove(self, key: str) -> None:
        self.load(key)
        if key in [info.parent async for info in self.walk()]:
            raise FailedPrecondition(f"{key} has children")
        try:
            self.path(key).unlink()
        except FileNotFoundError:
            raise NotFound(f"bare snapshot {key}") from None
        trace("bare.removed")

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        for name in self.names():
            try:
                info = self.load(name)
            except NotFound:
                continue
            yield info

    async def cleanup(self) -> None: ...

    async def close(self) -> None: ...
