"""Whole trees by dirfd: removed without recursion, and measured with each inode counted once."""

from __future__ import annotations

import os
import stat

__all__ = ["measure", "remove_tree", "set_folder_time"]

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(name: bytes | str, dirfd: int | None = None) -> None:
    """Remove `name`, and what is below it if it is a folder; symlinks are not followed.

    Depth costs neither recursion nor fds: folders are moved up into the top one before they are
    emptied, so that a hostile tree of a thousand levels goes like any other.

    Raises:
      OSError: as of unlink and rmdir; a missing `name` is no error.
    """
    try:
        os.unlink(name, dir_fd=dirfd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    else:
        return
    token = os.urandom(8).hex().encode()
    top = os.open(name, _DIR, dir_fd=dirfd)
    try:
        serial = 0
        pending = [b"."]
        while pending:
            folder = pending.pop()
            here = os.open(folder, _DIR, dir_fd=top)
            try:
                with os.scandir(here) as found:
                    entries = [
                        (os.fsencode(one.name), one.is_dir(follow_symlinks=False)) for one in found
                    ]
                for one, is_dir in entries:
                    if not is_dir:
                        os.unlink(one, dir_fd=here)
                    elif not _rmdir(one, here):
                        serial += 1
                        moved = b".rm-%s-%d" % (token, serial)
                        os.rename(one, moved, src_dir_fd=here, dst_dir_fd=top)
                        pending.append(moved)
            finally:
                os.close(here)
            if folder != b".":
                os.rmdir(folder, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=dirfd)


def _rmdir(name: bytes, dirfd: int) -> bool:
    try:
        os.rmdir(name, dir_fd=dirfd)
    except OSError:
        return False
    return True


def measure(path: str) -> tuple[int, int]:
    """Return the inodes and allocated bytes of the tree at `path`, each inode once.

    A tree that changes meanwhile is measured roughly; what vanishes counts as nothing.
    """
    seen: set[tuple[int, int]] = set()
    size = 0
    pending = [path]
    try:
        top = os.lstat(path)
    except FileNotFoundError:
        return 0, 0
    seen.add((top.st_dev, top.st_ino))
    size += top.st_blocks * 512
    while pending:
        try:
            found = os.scandir(pending.pop())
        except OSError:
            continue
        with found:
            for one in found:
                try:
                    status = one.stat(follow_symlinks=False)
                except OSError:
                    continue
                key = (status.st_dev, status.st_ino)
                if key not in seen:
                    seen.add(key)
                    size += status.st_blocks * 512
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(one.path)
    return len(seen), size


def set_folder_time(path_fd: int, mtime_ns: int) -> None:
    """Set when the folder behind an O_PATH fd was changed."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=path_fd)
    try:
        os.utime(fd, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(fd)
