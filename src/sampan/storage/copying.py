"""A file's content to another file: reflinked where the file system can, else copied."""

from __future__ import annotations

import errno
import fcntl
import os

__all__ = ["copy_data"]

_FICLONE = 0x40049409


def copy_data(source: int, target: int, size: int) -> None:
    """Copy `size` bytes between two fds, or share them; holes stay holes.

    Raises:
      OSError: ENOSPC and the like.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as err:
        if err.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
            raise
    else:
        return
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError as err:
            if err.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        while start < end:
            done = os.copy_file_range(source, target, end - start, start, start)
            if not done:
                return
            start += done
        at = end
    os.ftruncate(target, size)
