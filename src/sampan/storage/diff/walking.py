"""What changed between two trees, as a layer: both are walked side by side, by dirfds alone.

    only above      the entry, and everything below it
    only below      a whiteout
    in both         the entry if owner, mode, size, time, device, target or attributes differ; and a
                    regular file of the same time and size only if the time has no nanoseconds (a
                    tool set it) and the bytes differ

Folders come before what is in them and names in byte order, so equal trees give equal archives.
Sockets are left out. A second name of an inode above becomes a hard link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Protocol

from sampan.errors import ResourceExhausted
from sampan.storage import whiteouts
from sampan.storage.tar import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    Entry,
)
from sampan.storage.tar.writer import END_OF_ARCHIVE, header, padding

__all__ = ["Sink", "write_changes"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK = 1 << 20
_DEEPEST = 300
_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_NOT_OURS = (b"trusted.overlay.", b"user.overlay.", b"security.selinux")


class Sink(Protocol):
    """Takes the archive's bytes."""

    def write(self, data: bytes, /) -> object: ...


def write_changes(
    upper_fd: int, lower_fd: int | None, sink: Sink, *, latest_s: int | None = None
) -> None:
    """Write the layer that turns the tree at `lower_fd`, or nothing, into that at `upper_fd`.

    Args:
      upper_fd: A folder, borrowed.
      lower_fd: A folder, borrowed; None for an empty one.
      sink: Where the tar goes.
      latest_s: Later modification times are written as this one; None keeps all.
    """
    walk = _Walk(sink, latest_s)
    upper = os.open(".", _FOLDER, dir_fd=upper_fd)
    lower = -1
    try:
        if lower_fd is not None:
            lower = os.open(".", _FOLDER, dir_fd=lower_fd)
        walk.root(upper, lower)
        walk.folder(b"", upper, lower)
        sink.write(END_OF_ARCHIVE)
    finally:
        os.close(upper)
        if lower >= 0:
            os.close(lower)


class _Walk:
    def __init__(self, sink: Sink, latest_s: int | None) -> None:
        self._sink = sink
        self._latest_ns = None if latest_s is None else latest_s * 1_000_000_000
        self._links: dict[tuple[int, int], bytes] = {}
        self._unwritten: list[tuple[bytes, int, os.stat_result]] = []

    def root(self, upper: int, lower: int) -> None:
        """Write an entry for the root itself if its owner, mode or attributes changed."""
        above = os.fstat(upper)
        if lower < 0:
            return
        below = os.fstat(lower)
        if (above.st_mode, above.st_uid, above.st_gid) != (
            below.st_mode,
            below.st_uid,
            below.st_gid,
        ) or _attributes(upper) != _attributes(lower):
            self._write_entry(b"./", above, xattrs=_attributes(upper))

    def folder(self, path: bytes, upper: int, lower: int) -> None:
        """Write what changed below the folder `path`; its own entry is the caller's."""
        if path.count(b"/") > _DEEPEST:
            # Each level holds two fds and a frame.
            raise ResourceExhausted(f"diff: folders nested deeper than {_DEEPEST}: {path[:80]!r}")
        above = sorted(map(os.fsencode, os.listdir(upper)))
        below = set(map(os.fsencode, os.listdir(lower))) if lower >= 0 else set()
        gone = sorted(below.difference(above))
        for name in gone:
            self._flush()
            hidden = _join(path, whiteouts.PREFIX + name)
            self._sink.write(header(Entry(hidden, FILE, mode=0, size=0)))
        for name in above:
            self._one(path, name, upper, lower if name in below else -1)

    def _one(self, path: bytes, name: bytes, upper: int, lower: int) -> None:
        status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        old = os.stat(name, dir_fd=lower, follow_symlinks=False) if lower >= 0 else None
        inner = _join(path, name)
        if stat.S_ISSOCK(status.st_mode):
            return
        if not stat.S_ISDIR(status.st_mode):
            if old is None or _differs(name, upper, status, lower, old):
                self._flush()
                self._leaf(inner, name, upper, status)
            elif status.st_nlink > 1:
                self._links.setdefault((status.st_dev, status.st_ino), inner)
            return
        fd = os.open(name, _FOLDER, dir_fd=upper)
        old_fd = -1
        try:
            if old is not None and stat.S_ISDIR(old.st_mode):
                old_fd = os.open(name, _FOLDER, dir_fd=lower)
            if old is None or old_fd < 0 or _folder_differs(fd, status, old_fd, old):
                self._flush()
                self._write_entry(inner + b"/", status, xattrs=_attributes(fd))
                self.folder(inner, fd, old_fd)
            else:
                # Its entry comes only if something below it changed: parents of a change are
                # listed, so that the layer can be applied by itself.
                mark = len(self._unwritten)
                self._unwritten.append((inner + b"/", fd, status))
                self.folder(inner, fd, old_fd)
                del self._unwritten[mark:]
        finally:
            os.close(fd)
            if old_fd >= 0:
                os.close(old_fd)

    def _flush(self) -> None:
        for name, fd, status in self._unwritten:
            self._write_entry(name, status, xattrs=_attributes(fd))
        self._unwritten.clear()

    def _leaf(self, path: bytes, name: bytes, upper: int, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1:
            first = self._links.setdefault(key, path)
            if first != path:
                self._write_entry(path, status, linked=first)
                return
        if stat.S_ISREG(status.st_mode):
            fd = os.open(name, _FILE, dir_fd=upper)
            try:
                self._write_entry(path, status, xattrs=_attributes(fd))
                self._data(fd, status.st_size)
            finally:
                os.close(fd)
        elif stat.S_ISLNK(status.st_mode):
            self._write_entry(path, status, target=os.fsencode(os.readlink(name, dir_fd=upper)))
        else:
            self._write_entry(path, status)

    def _data(self, fd: int, size: int) -> None:
        left = size
        while left:
            data = os.read(fd, min(_CHUNK, left))
            if not data:
                # It shrank while we read: the header is written, the promise must be kept.
                data = bytes(min(_CHUNK, left))
            left -= len(data)
            self._sink.write(data)
        if size % 512:
            self._sink.write(padding(size))

    def _write_entry(
        self,
        name: bytes,
        status: os.stat_result,
        *,
        xattrs: dict[bytes, bytes] | None = None,
        target: bytes = b"",
        linked: bytes = b"",
    ) -> None:
        type_ = HARD_LINK if linked else _TYPES[stat.S_IFMT(status.st_mode)]
        mtime_ns = status.st_mtime_ns
        if self._latest_ns is not None:
            mtime_ns = min(mtime_ns, self._latest_ns)
        self._sink.write(
            header(
                Entry(
                    name,
                    type_,
                    mode=stat.S_IMODE(status.st_mode),
                    uid=status.st_uid,
                    gid=status.st_gid,
                    size=status.st_size if type_ == FILE else 0,
                    mtime_ns=mtime_ns,
                    linkname=linked or target,
                    major=os.major(status.st_rdev),
                    minor=os.minor(status.st_rdev),
                    xattrs=xattrs,
                )
            )
        )


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _attributes(fd: int) -> dict[bytes, bytes] | None:
    try:
        names = os.listxattr(fd)
    except OSError:
        return None
    found = {}
    for name in map(os.fsencode, names):
        if not name.startswith(_NOT_OURS):
            found[name] = os.getxattr(fd, name)
    return found or None


def _owned_alike(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def _folder_differs(fd: int, status: os.stat_result, old_fd: int, old: os.stat_result) -> bool:
    return not _owned_alike(status, old) or _attributes(fd) != _attributes(old_fd)


def _differs(
    name: bytes, upper: int, status: os.stat_result, lower: int, old: os.stat_result
) -> bool:
    if not _owned_alike(status, old) or status.st_rdev != old.st_rdev:
        return True
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(name, dir_fd=upper) != os.readlink(name, dir_fd=lower)
    if not stat.S_ISREG(status.st_mode):
        return False
    if status.st_size != old.st_size or status.st_mtime_ns != old.st_mtime_ns:
        return True
    if (status.st_dev, status.st_ino) == (old.st_dev, old.st_ino):
        return False
    one, other = os.open(name, _FILE, dir_fd=upper), -1
    try:
        other = os.open(name, _FILE, dir_fd=lower)
        if _attributes(one) != _attributes(other):
            return True
        return status.st_mtime_ns % 1_000_000_000 == 0 and any(
            left != right for left, right in _side_by_side(one, other)
        )
    finally:
        os.close(one)
        if other >= 0:
            os.close(other)


def _side_by_side(one: int, other: int) -> Iterator[tuple[bytes, bytes]]:
    while True:
        left, right = os.read(one, _CHUNK), os.read(other, _CHUNK)
        yield left, right
        if not left or not right:
            return
