"""A content store that keeps a copy of every blob in an archive, whatever is collected later.

    disabled_plugins = ["io.containerd.content.v1.content"]

    [plugins."io.containerd.content.v1.archived"]
      archive = "/srv/archive"                     # gets sha256/<hex>, read-only files

It has our own store do the work, and adds one step to `commit`: the blob, verified by then, is
copied beside its name in the archive, and renamed into place. Killed in between, the next commit
of the same blob does it again; until then the archive has a part, never a wrong blob.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from sampan.concurrency import to_thread
from sampan.engine.extensions import CONTENT
from sampan.model.digest import Digest
from sampan.plugin import InitContext, plugin
from sampan.storage.content import BareStore, Info, Writer
from sampan.storage.content.local import LocalStore

__all__ = ["archived"]

CHUNK = 64 << 20


class ArchivedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    archive: str = "/srv/archive"


@plugin(CONTENT, "archived", config=ArchivedConfig)
def archived(ctx: InitContext[ArchivedConfig]) -> BareStore:
    """Open the store of this root, with the archive beside it."""
    ctx.root.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    ctx.instance.exports.update(root=str(ctx.root), archive=ctx.config.archive)
    return Archived(LocalStore(ctx.root), Path(ctx.config.archive))


class Archived:
    """The local store, but for its writers."""

    def __init__(self, local: LocalStore, archive: Path) -> None:
        self._local = local
        self._archive = archive

    async def writer(self, ref: str, *, expected: Digest | None = None, total: int = 0) -> Writer:
        return Archiving(self, await self._local.writer(ref, expected=expected, total=total))

    async def keep(self, digest: Digest) -> None:
        """Copy a blob into the archive, unless it is there."""
        async with await self._local.reader(digest) as reader:
            await to_thread(copy, reader.fileno(), self._archive, digest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)


class Archiving:
    """A writer that archives what it has committed."""

    def __init__(self, store: Archived, inner: Writer) -> None:
        self._store = store
        self._inner = inner

    async def commit(
        self,
        size: int = 0,
        expected: Digest | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Info:
        info = await self._inner.commit(size, expected, labels=labels)
        await self._store.keep(info.digest)
        return info

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def copy(fd: int, archive: Path, digest: Digest) -> None:
    """Copy an open blob into place: beside it first, on the disk, then renamed."""
    algorithm, _, name = digest.partition(":")
    target = archive / algorithm / name
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{name}.{os.getpid()}")
    with part.open("wb") as file:
        at = 0
        while sent := os.sendfile(file.fileno(), fd, at, CHUNK):
            at += sent
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        part.rename(target)
