"""Idmapped mounts: the same files with other owners, as a user namespace maps them."""

from __future__ import annotations

import os

from sampan.linux import mounts, namespaces, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["clone_mapped", "map_tree", "mapped_userns", "parse"]


def parse(text: str) -> list[tuple[int, int, int]]:
    """Return the ranges of `inside:outside:count,...`.

    Raises:
      ValueError: it is no such list.
    """
    found = []
    for part in text.split(","):
        inside, outside, count = part.split(":")
        found.append((int(inside), int(outside), int(count)))
    return found


def mapped_userns(
    uids: Sequence[tuple[int, int, int]], gids: Sequence[tuple[int, int, int]]
) -> int:
    """Return an fd, which the caller owns, of a new user namespace with these maps.

    Forks: the process must have one thread.

    Raises:
      OSError: EPERM, the maps are not ours to give; EINVAL, they overlap.
    """
    hear, tell = os.pipe2(os.O_CLOEXEC)
    try:
        pid, _ = process.clone3(namespaces.CLONE_NEWUSER, pidfd=False)
        if pid == 0:
            try:
                os.close(tell)
                os.read(hear, 1)
            finally:
                os._exit(0)
        try:
            namespaces.write_id_map(pid, "uid", uids)
            namespaces.write_id_map(pid, "gid", gids)
            return namespaces.open_namespace(pid, "user")
        finally:
            os.close(tell)
            tell = -1
            os.waitpid(pid, 0)
    finally:
        os.close(hear)
        if tell >= 0:
            os.close(tell)


def clone_mapped(path: str, userns_fd: int, *, recursive: bool = False) -> int:
    """Return a detached copy of the mount at `path` with the ids of a user namespace.

    Raises:
      OSError: EINVAL, the file system allows no mapping, or the mount is mapped already.

    Source: mount_setattr(2), MOUNT_ATTR_IDMAP, Linux 5.12.
    """
    flags = mounts.OPEN_TREE_CLONE | (mounts.AT_RECURSIVE if recursive else 0)
    tree = mounts.open_tree(mounts.AT_FDCWD, path, flags)
    try:
        map_tree(tree, userns_fd, recursive=recursive)
    except BaseException:
        os.close(tree)
        raise
    return tree


def map_tree(tree: int, userns_fd: int, *, recursive: bool = False) -> None:
    """Give a detached mount the ids of a user namespace."""
    flags = mounts.AT_EMPTY_PATH | (mounts.AT_RECURSIVE if recursive else 0)
    mounts.mount_setattr(tree, "", flags, add=mounts.MOUNT_ATTR_IDMAP, userns_fd=userns_fd)
