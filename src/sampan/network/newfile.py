"""Files that appear complete or not at all, and leave nothing behind when we are killed."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from sampan.linux.paths import link_fd, open_tmpfile

__all__ = ["write_new"]


def write_new(folder: Path, name: str, data: bytes, *, mode: int = 0o755) -> bool:
    """Write a new file of mode 0600; return False if there is one of that name.

    It has no name until it is complete, where the file system can do that (O_TMPFILE).

    Args:
      folder: Made with `mode` if it is missing.
      name: Of the file.
      data: Its content.
      mode: Of the folder.
    """
    try:
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        folder.mkdir(parents=True, mode=mode, exist_ok=True)
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _write(folder_fd, name, data)
    except FileExistsError:
        return False
    finally:
        os.close(folder_fd)


def _write(folder_fd: int, name: str, data: bytes) -> bool:
    try:
        fd = open_tmpfile(folder_fd)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        return _write_named(folder_fd, name, data)
    try:
        os.write(fd, data)
        link_fd(fd, folder_fd, name)
    finally:
        os.close(fd)
    return True


def _write_named(folder_fd: int, name: str, data: bytes) -> bool:
    """The same by way of a passing name, which a kill may leave behind."""
    passing = f".{os.getpid()}-{os.urandom(6).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(passing, flags, 0o600, dir_fd=folder_fd)
    try:
        os.write(fd, data)
        os.link(passing, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(passing, dir_fd=folder_fd)
    return True
