"""The comparer: two snapshots' mounts, opened detached, walked, compressed, and stored."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

import zstandard
from isal import isal_zlib

from sampan.concurrency import to_thread
from sampan.errors import AlreadyExists, NotFound, Unimplemented
from sampan.model import descriptor as media_types
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.model.mounts import Mount
from sampan.storage.content import Store
from sampan.storage.detached import open_mounts
from sampan.storage.diff.walking import write_changes
from sampan.storage.snapshots.folders import SNAPSHOTS
from sampan.storage.workers import Runner

__all__ = ["UNCOMPRESSED", "WalkingComparer", "write_layer"]

UNCOMPRESSED = "containerd.io/uncompressed"
# Magic, deflate, no flags, no time, no hint, unknown system: nothing of when and where.
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_CHUNK = 1 << 20


class _Compressing:
    """A sink that hashes what it gets, and writes it compressed to a file."""

    def __init__(self, file: IO[bytes], kind: str) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._kind = kind
        self._crc = self._size = 0
        self._deflate = isal_zlib.compressobj(2, wbits=-15) if kind == "gzip" else None
        self._zstd = zstandard.ZstdCompressor(level=3).compressobj() if kind == "zstd" else None
        if self._deflate:
            file.write(_GZIP_HEAD)

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        if self._deflate is not None:
            self._crc = isal_zlib.crc32(data, self._crc)
            self._size += len(data)
            self._file.write(self._deflate.compress(data))
        elif self._zstd is not None:
            self._file.write(self._zstd.compress(data))
        else:
            self._file.write(data)

    def finish(self) -> str:
        """Write the end; return the digest of what came in."""
        if self._deflate is not None:
            self._file.write(self._deflate.flush(zlib.Z_FINISH))
            self._file.write((self._crc & 0xFFFFFFFF).to_bytes(4, "little"))
            self._file.write((self._size & 0xFFFFFFFF).to_bytes(4, "little"))
        elif self._zstd is not None:
            self._file.write(self._zstd.flush())
        self._file.flush()
        return f"sha256:{self._hash.hexdigest()}"


class WalkingComparer:
    """See `diff.Comparer`."""

    def __init__(self, store: Store, runner: Runner | None = None) -> None:
        """Write to `store`; a runner with `rootless` does the walking for an ordinary user."""
        self._store = store
        self._run = runner if getattr(runner, "rootless", False) else None

    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
        source_date_epoch: int | None = None,
    ) -> Descriptor:
        media_type = media_type or media_types.OCI_LAYER_GZIP
        if not media_types.is_layer(media_type):
            raise Unimplemented(f"diff: unsupported media type: {media_type!r}")
        kind = media_types.compression(media_type)
        with tempfile.TemporaryFile() as file:
            diff_id = await self._write(file, kind, lower, upper, source_date_epoch)
            all_labels = {**(labels or {}), UNCOMPRESSED: diff_id}
            digest, size = await self._store_file(file.fileno(), ref, all_labels)
        return Descriptor(
            media_type=media_type,
            digest=digest,
            size=size,
            annotations={UNCOMPRESSED: diff_id},
        )

    async def _write(
        self,
        file: IO[bytes],
        kind: str,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        latest_s: int | None,
    ) -> str:
        if self._run is None:
            return await to_thread(
                write_layer, file, kind, list(lower), list(upper), latest_s, limit=SNAPSHOTS
            )
        from sampan.storage.rootless import to_json

        request = {
            "call": "compare",
            "kind": kind,
            "lower": to_json(lower),
            "upper": to_json(upper),
            "latest_s": latest_s,
        }
        return str((await self._run(request, [file.fileno()]))["value"])

    async def _store_file(self, fd: int, ref: str, labels: Mapping[str, str]) -> tuple[Digest, int]:
        ref = ref or f"diff-{os.urandom(12).hex()}"
        offset = 0
        async with await self._store.writer(ref) as writer:
            await writer.truncate(0)
            while data := await to_thread(os.pread, fd, _CHUNK, offset, limit=SNAPSHOTS):
                offset = await writer.write(data)
            digest = await writer.digest()
            try:
                await writer.commit(offset, digest, labels=labels)
            except AlreadyExists:
                return digest, offset
            except BaseException:
                await writer.close()
                with suppress(NotFound):
                    await self._store.abort(ref)
                raise
        return digest, offset


def write_layer(
    file: IO[bytes], kind: str, lower: list[Mount], upper: list[Mount], latest_s: int | None
) -> str:
    """Write the layer that turns `lower` into `upper`, compressed; return its diff id. Blocks."""
    sink = _Compressing(file, kind)
    above, below = open_mounts(upper), -1
    try:
        if lower:
            below = open_mounts(lower)
        write_changes(above, below if lower else None, sink, latest_s=latest_s)
        return sink.finish()
    finally:
        os.close(above)
        if below >= 0:
            os.close(below)
