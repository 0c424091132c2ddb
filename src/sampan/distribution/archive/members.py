"""The members of an archive or folder, one after the other, names checked, nothing followed."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard
from isal import igzip

from sampan.concurrency import Limit, to_thread
from sampan.distribution.archive import Readable
from sampan.errors import InvalidArgument
from sampan.storage.tar import BLOCK, DIRECTORY, FILE, HARD_LINK, SYMLINK, Caps, Entry
from sampan.storage.tar.parser import END, Parser

__all__ = ["Member", "members"]

_READS: Final = Limit("archive", 4)
_CHUNK: Final = 1 << 20
_WINDOW_MAX: Final = 1 << 27
_CAPS: Final = Caps(entries=200_000)


@dataclass(slots=True)
class Member:
    """A file or a link; read `chunks` before asking for the next member."""

    name: str
    size: int
    link: str = ""
    """For a link: the member it stands for."""
    chunks: AsyncIterator[bytes] | None = None


async def members(source: Path | Readable) -> AsyncIterator[Member]:
    """Yield files and links; folders are passed over.

    Raises:
      InvalidArgument: no archive, a name that leads out of it, or a device or the like in it.
      ResourceExhausted: more than the caps of `storage.tar`.
    """
    if isinstance(source, Path):
        if await to_thread(source.is_dir):
            async for member in _of_folder(source):
                yield member
            return
        file = await to_thread(source.open, "rb")
        try:
            async for member in _of_tar(file):
                yield member
        finally:
            await to_thread(file.close)
        return
    async for member in _of_tar(source):
        yield member


async def _of_tar(source: Readable) -> AsyncIterator[Member]:
    stream = await to_thread(_inflated, source, limit=_READS)
    parser = Parser(_CAPS)
    while True:
        block = await to_thread(_exactly, stream, BLOCK, limit=_READS)
        if not block:
            raise InvalidArgument("archive ends without its end mark: it is truncated")
        step = parser.block(block)
        if step is None:
            continue
        if step is END:
            return
        if isinstance(step, int):
            parser.payload(await to_thread(_exactly, stream, step, limit=_READS))
            continue
        assert isinstance(step, Entry)  # noqa: S101 - the parser returns nothing else
        left = [step.stored + -step.stored % BLOCK]
        if (member := _member(step)) is not None:
            if not member.link:
                member.chunks = _data(stream, step.stored, left)
            yield member
        while left[0]:
            skipped = await to_thread(_exactly, stream, min(left[0], _CHUNK), limit=_READS)
            left[0] -= len(skipped)


def _member(entry: Entry) -> Member | None:
    name = _checked(entry.name)
    if entry.type == DIRECTORY:
        return None
    if entry.type == FILE:
        if entry.sparse is not None or entry.map_in_data:
            raise InvalidArgument(f"archive member {name!r} is sparse; images have no such files")
        return Member(name, entry.size)
    if entry.type == SYMLINK:
        target = _text(entry.linkname)
        return Member(name, 0, _inside(posixpath.join(posixpath.dirname(name), target), name))
    if entry.type == HARD_LINK:
        return Member(name, 0, _checked(entry.linkname))
    raise InvalidArgument(f"archive member {name!r} is neither file, folder nor link: refused")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"archive: name {raw[:80]!r} is not UTF-8: refused") from None


def _checked(raw: bytes) -> str:
    name = _text(raw)
    if name.startswith("/") or ".." in name.split("/"):
        raise InvalidArgument(f"archive: name {name[:80]!r} leads out of the archive: refused")
    return posixpath.normpath(name)


def _inside(path: str, name: str) -> str:
    path = posixpath.normpath(path)
    if path.startswith(("/", "../")) or path == "..":
        raise InvalidArgument(f"archive: link {name[:80]!r} leads out of the archive: refused")
    return path


async def _data(stream: Readable, size: int, left: list[int]) -> AsyncIterator[bytes]:
    while size:
        chunk = await to_thread(_exactly, stream, min(size, _CHUNK), limit=_READS)
        size -= len(chunk)
        left[0] -= len(chunk)
        yield chunk


def _exactly(stream: Readable, size: int) -> bytes:
    """Read `size` bytes; nothing at the very end; InvalidArgument in between."""
    parts: list[bytes] = []
    missing = size
    try:
        while missing and (part := stream.read(missing)):
            parts.append(part)
            missing -= len(part)
    except (OSError, EOFError, zstandard.ZstdError, zlib.error) as err:
        raise InvalidArgument(f"archive cannot be read: {err}") from err
    if missing and (parts or size != BLOCK):
        raise InvalidArgument("archive ends inside a member: it is truncated")
    return b"".join(parts)


def _inflated(source: Readable) -> Readable:
    head = b""
    while len(head) < 4 and (part := source.read(4 - len(head))):
        head += part
    raw = io.BufferedReader(_Again(head, source), _CHUNK)
    if head[:2] == b"\x1f\x8b":
        inflated: Readable = igzip.IGzipFile(fileobj=raw, mode="rb")  # type: ignore[no-untyped-call]
        return inflated
    if head == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX).stream_reader(raw)
    return raw


class _Again(io.RawIOBase):
    """A stream whose first bytes were looked at."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :] if self._head else b""
        buffer[: len(data)] = data
        return len(data)


async def _of_folder(folder: Path) -> AsyncIterator[Member]:
    for name in await to_thread(lambda: sorted(_names(folder))):
        file = await to_thread(_opened, folder, name)
        try:
            member = Member(name, os.fstat(file.fileno()).st_size)
            left = [member.size]
            member.chunks = _data(file, member.size, left)
            yield member
        finally:
            await to_thread(file.close)


def _names(folder: Path) -> Iterator[str]:
    """Yield the places where a layout has files; whatever else lies there is not looked at."""
    for name in ("oci-layout", "index.json", "manifest.json"):
        if os.path.lexists(folder / name):
            yield name
    blobs = folder / "blobs"
    for algorithm in sorted(os.listdir(blobs)) if blobs.is_dir() else ():
        if (blobs / algorithm).is_dir():
            yield from (f"blobs/{algorithm}/{name}" for name in os.listdir(blobs / algorithm))


def _opened(folder: Path, name: str) -> io.FileIO:
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise InvalidArgument(f"{folder}/{name}: {err.strerror}: refused") from err
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidArgument(f"{folder}/{name} is no regular file: refused")
    return io.FileIO(fd, "rb")
