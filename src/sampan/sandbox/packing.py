"""A tree as a tar archive, read while somebody hostile may be changing it.

Each thing is opened once, as a place without effect (O_PATH), looked at, and only a regular file
is opened again, by that very fd: what is swapped meanwhile is read as what it was or left out, and
no device is ever opened. Runs in a confined worker, or in a thread for folders of our own.
"""

from __future__ import annotations

import os
import stat

from sampan.errors import ResourceExhausted
from sampan.storage.tar import DIRECTORY, FILE, HARD_LINK, SYMLINK, Entry
from sampan.storage.tar.writer import END_OF_ARCHIVE, header, padding

__all__ = ["pack"]

_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20
_DEEPEST = 300


class _Packer:
    def __init__(self, out_fd: int, proc_fd: int, *, whole: bool, device: int) -> None:
        self._out = out_fd
        self._proc = proc_fd
        self._whole = whole
        self._device = device
        self._links: dict[tuple[int, int], bytes] = {}

    def folder(self, fd: int, path: bytes) -> None:
        """Write what is in the folder `fd`, whose own entry is written."""
        if path.count(b"/") > _DEEPEST:
            raise ResourceExhausted(f"folders are nested deeper than {_DEEPEST}: {path[:80]!r}")
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            try:
                place = os.open(name, _PLACE, dir_fd=fd)
            except FileNotFoundError:
                continue
            try:
                self._one(place, fd, name, path + name)
            finally:
                os.close(place)

    def _one(self, place: int, parent: int, name: bytes, path: bytes) -> None:
        status = os.fstat(place)
        if stat.S_ISDIR(status.st_mode):
            # By the place: a folder that was swapped for another meanwhile is not entered.
            fd = os.open(b".", _FOLDER, dir_fd=place)
            try:
                self._write(header(self._entry(path + b"/", DIRECTORY, status, fd)))
                if not self._whole or status.st_dev == self._device:
                    self.folder(fd, path + b"/")
            finally:
                os.close(fd)
        elif stat.S_ISLNK(status.st_mode):
            target = os.fsencode(os.readlink(b"", dir_fd=place))
            self._write(header(self._entry(path, SYMLINK, status, linkname=target)))
        elif stat.S_ISREG(status.st_mode):
            self._file(place, path, status)

    def _file(self, place: int, path: bytes, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1:
            first = self._links.setdefault(key, path)
            if first != path:
                self._write(header(self._entry(path, HARD_LINK, status, linkname=first)))
                return
        fd = os.open(b"%d" % place, _FILE, dir_fd=self._proc)
        try:
            size = os.fstat(fd).st_size
            self._write(header(self._entry(path, FILE, status, fd, size=size)))
            left = size
            while left:
                # One that shrinks meanwhile is filled up with zeros: its size was announced.
                data = os.read(fd, min(_CHUNK, left)) or bytes(min(_CHUNK, left))
                left -= len(data)
                self._write(data)
            self._write(padding(size))
        finally:
            os.close(fd)

    def _entry(
        self,
        path: bytes,
        kind: int,
        status: os.stat_result,
        fd: int = -1,
        *,
        size: int = 0,
        linkname: bytes = b"",
    ) -> Entry:
        xattrs: dict[bytes, bytes] = {}
        if self._whole and fd >= 0:
            for name in map(os.fsencode, os.listxattr(fd)):
                if not name.startswith((b"trusted.overlay.", b"user.overlay.")):
                    xattrs[name] = os.getxattr(fd, name)
        return Entry(
            path,
            kind,
            mode=stat.S_IMODE(status.st_mode) & (0o7777 if self._whole else 0o777),
            uid=status.st_uid,
            gid=status.st_gid,
            size=size,
            mtime_ns=status.st_mtime_ns,
            linkname=linkname,
            xattrs=xattrs or None,
        )

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._out, left) :]


def pack(folder_fd: int, out_fd: int, *, proc_fd: int, whole: bool = False) -> None:
    """Write what is in a folder as a tar archive; devices, sockets and fifos are left out.

    Args:
      folder_fd: The folder, borrowed.
      out_fd: Where to, borrowed.
      proc_fd: /proc/self/fd, opened before any change of the root.
      whole: As a root file system: with setuid bits and extended attributes, and without what is
        mounted in it.

    Raises:
      BrokenPipeError: nobody reads any more.
      ResourceExhausted: folders are nested too deep.
    """
    device = os.fstat(folder_fd).st_dev
    packer = _Packer(out_fd, proc_fd, whole=whole, device=device)
    fd = os.open(b".", _FOLDER, dir_fd=folder_fd)
    try:
        packer.folder(fd, b"")
        packer._write(END_OF_ARCHIVE)  # noqa: SLF001 - the same module
    finally:
        os.close(fd)
