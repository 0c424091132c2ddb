"""From the content store to an archive: an OCI layout, with Docker's files beside it on request."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from sampan.concurrency import Limit, to_thread
from sampan.distribution.archive import Writable
from sampan.distribution.transfer.children import DOCUMENT_TYPES, children, read_document, select
from sampan.errors import AlreadyExists, NotFound
from sampan.model import digest as digests
from sampan.model import reference
from sampan.model.descriptor import OCI_INDEX, Descriptor, is_foreign
from sampan.model.digest import Digest
from sampan.model.image import Index, Manifest, encode
from sampan.model.platform import Matcher, default
from sampan.storage.content import Store

__all__ = ["save"]

_WRITES: Final = Limit("archive-out", 2)
_BLOCK: Final = 512
_RECORD: Final = 10240
_NAME: Final = "io.containerd.image.name"
_REF_NAME: Final = "org.opencontainers.image.ref.name"


class _Sink(Protocol):
    async def begin(self, name: str, size: int) -> None: ...
    async def data(self, chunk: bytes) -> None: ...
    async def end(self) -> None: ...
    async def finish(self) -> None: ...


async def save(
    content: Store,
    images: Sequence[tuple[str, Descriptor]],
    sink: Path | Writable,
    *,
    docker: bool = True,
    platform: Matcher | None = None,
    only_platform: bool = False,
    foreign: bool = True,
) -> None:
    """Write images, each under its name, with everything below that is here.

    Args:
      content: Where they are.
      images: Names (normalised references, or empty) and targets.
      sink: A folder to create, or a stream for a tar. The stream stays the caller's.
      docker: Write manifest.json and repositories, too, for docker load.
      platform: Which image of an index Docker's files shall name, and which must be complete;
        None is this host's.
      only_platform: Leave out the other images of an index, though they are here.
      foreign: Write layers that may not be distributed, where they are here.

    Raises:
      NotFound: a blob that an image needs is not here.
      AlreadyExists: the folder exists.
    """
    out: _Sink = _Folder(sink) if isinstance(sink, Path) else _Tar(sink)
    matcher = platform or Matcher(default())
    blobs: dict[Digest, Descriptor] = {}
    chosen: list[tuple[str, Manifest]] = []
    for name, target in images:
        manifest = await _collect(content, target, matcher, blobs, name, only=only_platform)
        chosen.append((name, manifest))
    named = tuple(_named(name, target) for name, target in images)
    if foreign:
        await _add_foreign(content, [manifest for _, manifest in chosen], blobs)
    index = Index(schema_version=2, media_type=OCI_INDEX, manifests=named)
    await _put(out, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    for digest in sorted(blobs):
        await _blob(content, out, blobs[digest])
    await _put(out, "index.json", encode(index))
    if docker:
        await _put(out, "manifest.json", _manifest_json(chosen))
        await _put(out, "repositories", _repositories(chosen))
    await out.finish()


async def _collect(
    content: Store,
    target: Descriptor,
    matcher: Matcher,
    blobs: dict[Digest, Descriptor],
    name: str,
    *,
    only: bool,
) -> Manifest:
    """Add the target's blobs; return the manifest for the platform, which must be complete."""
    document = await read_document(content, target)
    blobs[target.digest] = target
    if isinstance(document, Manifest):
        for child in children(document):
            if not is_foreign(child.media_type):
                await content.info(child.digest)
                blobs[child.digest] = child
        return document
    wanted = select(document, matcher, f"image {name}")
    for child in document.manifests:
        if only or child.digest == wanted.digest or child.media_type not in DOCUMENT_TYPES:
            continue
        partial: dict[Digest, Descriptor] = {}
        try:
            await _collect(content, child, matcher, partial, name, only=only)
        except NotFound:
            continue
        blobs.update(partial)
    return await _collect(content, wanted, matcher, blobs, name, only=only)


async def _add_foreign(
    content: Store, manifests: Sequence[Manifest], blobs: dict[Digest, Descriptor]
) -> None:
    for child in (child for manifest in manifests for child in children(manifest)):
        if is_foreign(child.media_type):
            with suppress(NotFound):
                await content.info(child.digest)
                blobs[child.digest] = child


def _named(name: str, target: Descriptor) -> Descriptor:
    if not name:
        return target
    tag = reference.parse(name).tag
    annotations = {_NAME: name, **({_REF_NAME: tag} if tag else {})}
    return msgspec.structs.replace(target, annotations=annotations)


def _place(digest: Digest) -> str:
    return f"blobs/{digests.algorithm(digest)}/{digests.encoded(digest)}"


def _manifest_json(chosen: Sequence[tuple[str, Manifest]]) -> bytes:
    return json.dumps(
        [
            {
                "Config": _place(manifest.config.digest),
                "RepoTags": [reference.parse(name).familiar] if name else None,
                "Layers": [_place(layer.digest) for layer in manifest.layers],
            }
            for name, manifest in chosen
        ]
    ).encode()


def _repositories(chosen: Sequence[tuple[str, Manifest]]) -> bytes:
    found: dict[str, dict[str, str]] = {}
    for name, manifest in chosen:
        if name and (parsed := reference.parse(name)).tag and manifest.layers:
            repository = parsed.familiar.rpartition(":")[0] if not parsed.digest else parsed.name
            top = digests.encoded(manifest.layers[-1].digest)
            found.setdefault(repository, {})[parsed.tag] = top
    return json.dumps(found).encode()


async def _put(out: _Sink, name: str, data: bytes) -> None:
    await out.begin(name, len(data))
    await out.data(data)
    await out.end()


async def _blob(content: Store, out: _Sink, descriptor: Descriptor) -> None:
    async with await content.reader(descriptor.digest) as reader:
        await out.begin(_place(descriptor.digest), reader.size)
        chunks: AsyncIterator[bytes] = reader.chunks()
        async for chunk in chunks:
            await out.data(chunk)
        await out.end()


class _Tar:
    """A tar with folders, times and owners that are always the same."""

    def __init__(self, stream: Writable) -> None:
        self._stream = stream
        self._folders: set[str] = set()
        self._size = 0
        self._written = 0

    async def begin(self, name: str, size: int) -> None:
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in self._folders:
                self._folders.add(folder)
                await self._write(_header(folder, 0, 0o755, tarfile.DIRTYPE))
        self._size = size
        await self._write(_header(name, size, 0o644, tarfile.REGTYPE))

    async def data(self, chunk: bytes) -> None:
        await self._write(chunk)

    async def end(self) -> None:
        await self._write(bytes(-self._size % _BLOCK))

    async def finish(self) -> None:
        end = 2 * _BLOCK
        await self._write(bytes(end + -(self._written + end) % _RECORD))

    async def _write(self, data: bytes) -> None:
        self._written += len(data)
        await to_thread(self._stream.write, data, limit=_WRITES)


def _header(name: str, size: int, mode: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = size, mode, kind
    return info.tobuf(tarfile.PAX_FORMAT)


class _Folder:
    """A layout on disk. index.json comes after the blobs, so a cut one is not taken for whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = False
        self._fd = -1

    async def begin(self, name: str, size: int) -> None:
        self._fd = await to_thread(self._open, name, limit=_WRITES)

    def _open(self, name: str) -> int:
        if not self._made:
            try:
                self._folder.mkdir(parents=True)
            except FileExistsError:
                raise AlreadyExists(f"folder {self._folder} exists: give another") from None
            self._made = True
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    async def data(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[await to_thread(os.write, self._fd, view, limit=_WRITES) :]

    async def end(self) -> None:
        fd, self._fd = self._fd, -1
        await to_thread(os.close, fd)

    async def finish(self) -> None:
        return None
