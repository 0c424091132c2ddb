"""Members to a layer: a tar in a fixed order with fixed headers, compressed, hashed on the way."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import zstandard
from isal import isal_zlib

from sampan.distribution.from_host.plan import Member
from sampan.errors import Aborted, InvalidArgument, NotFound
from sampan.model.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from sampan.model.digest import Digest

__all__ = ["Layer", "split", "write"]

_TYPES: Final = {"": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_CHUNK: Final = 1 << 20
_GZIP_WINDOW: Final = 31
_GZIP_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3
_BLOCK: Final = 512
_RECORD: Final = 10240


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in a file, which is the caller's to remove."""

    file: Path
    descriptor: Descriptor
    diff_id: Digest


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def write(
    members: Sequence[Member], file: Path, *, compression: str, latest: int | None = None
) -> Layer:
    """Write a layer to `file`, which must not exist. Blocking.

    Args:
      members: Sorted, parents first.
      file: Where to.
      compression: `gzip`, `zstd`, or nothing.
      latest: Latest modification time, in seconds.

    Raises:
      Aborted: a file changed while it was read.
      NotFound: a file vanished.
      InvalidArgument: no such compression.
    """
    compressor = _compressor(compression)
    plain, packed = hashlib.sha256(), hashlib.sha256()
    size = 0
    with file.open("xb") as out:
        for chunk in _tar(members, latest):
            plain.update(chunk)
            if done := compressor.compress(chunk):
                packed.update(done)
                size += out.write(done)
        done = compressor.flush()
        packed.update(done)
        size += out.write(done)
    descriptor = Descriptor(
        media_type=_TYPES[compression], digest=Digest(f"sha256:{packed.hexdigest()}"), size=size
    )
    return Layer(file, descriptor, Digest(f"sha256:{plain.hexdigest()}"))


def split(members: Sequence[Member], count: int) -> Iterator[list[Member]]:
    """Divide members into at most `count` runs of about the same number of bytes."""
    total = sum(_size(member) for member in members)
    run: list[Member] = []
    done = made = 0
    for member in members:
        run.append(member)
        done += _size(member)
        if done * count >= total * (made + 1) and made + 1 < count:
            yield run
            run, made = [], made + 1
    if run:
        yield run


def _size(member: Member) -> int:
    return _BLOCK + (member.status.st_size if member.status else len(member.data or b""))


def _compressor(name: str) -> _Compressor:
    match name:
        case "":
            return _Plain()
        case "gzip":
            # Through zlib's interface the header holds neither name nor time.
            made: _Compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
            return made
        case "zstd":
            return zstandard.ZstdCompressor(
                level=_ZSTD_LEVEL, write_content_size=False
            ).compressobj()
        case _:
            raise InvalidArgument(f"compression {name!r}: give gzip, zstd or nothing")


def _tar(members: Sequence[Member], latest: int | None) -> Iterator[bytes]:
    """Yield the archive in chunks of about a MiB."""
    links: dict[tuple[int, int], str] = {}
    buffer: list[bytes] = []
    size = total = 0
    for chunk in _chunks(members, latest, links):
        buffer.append(chunk)
        size += len(chunk)
        total += len(chunk)
        if size >= _CHUNK:
            yield b"".join(buffer)
            buffer, size = [], 0
    buffer.append(bytes(2 * _BLOCK + -(total + 2 * _BLOCK) % _RECORD))
    yield b"".join(buffer)


def _chunks(
    members: Sequence[Member], latest: int | None, links: dict[tuple[int, int], str]
) -> Iterator[bytes]:
    for member in members:
        status = member.status
        if status is None:
            yield _made_up(member, latest)
        elif stat.S_ISREG(status.st_mode):
            inode = (status.st_dev, status.st_ino)
            first = links.setdefault(inode, member.path) if status.st_nlink > 1 else member.path
            if first != member.path:
                yield _header(member, latest, tarfile.LNKTYPE, link=first.lstrip("/"))
            else:
                yield from _regular(member, latest)
        elif stat.S_ISLNK(status.st_mode):
            yield _header(member, latest, tarfile.SYMTYPE, link=member.target)
        else:
            yield _header(member, latest, tarfile.DIRTYPE)


def _made_up(member: Member, latest: int | None) -> bytes:
    info = tarfile.TarInfo(member.path.lstrip("/"))
    info.mode, info.mtime = member.mode, min(0, latest or 0)
    if member.data is None:
        info.type = tarfile.DIRTYPE
        return info.tobuf(tarfile.PAX_FORMAT)
    info.size = len(member.data)
    return info.tobuf(tarfile.PAX_FORMAT) + member.data + bytes(-len(member.data) % _BLOCK)


def _header(
    member: Member, latest: int | None, kind: bytes, *, link: str = "", size: int = 0
) -> bytes:
    assert member.status is not None  # noqa: S101 - of members that are the host's
    info = tarfile.TarInfo(member.path.lstrip("/"))
    info.type, info.linkname, info.size = kind, link, size
    info.mode = stat.S_IMODE(member.status.st_mode)
    info.uid, info.gid = member.status.st_uid, member.status.st_gid
    seconds = int(member.status.st_mtime)
    info.mtime = seconds if latest is None else min(seconds, latest)
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def _regular(member: Member, latest: int | None) -> Iterator[bytes]:
    try:
        fd = os.open(member.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as err:
        raise NotFound(f"{member.path}: {err.strerror}") from err
    with open(fd, "rb", buffering=0) as file:
        size = os.fstat(fd).st_size
        yield _header(member, latest, tarfile.REGTYPE, size=size)
        yield from _data(file, member.path, size)


def _data(file: io.FileIO, path: str, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise Aborted(f"{path} became shorter while it was read; try again")
        left -= len(chunk)
        yield chunk
    if size % _BLOCK:
        yield bytes(-size % _BLOCK)
