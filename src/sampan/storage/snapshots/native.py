"""Snapshots as whole copies: for file systems and kernels where nothing else works.

    snapshots/<id>/fs         the whole tree, parents included; reflinked where possible

The copy is made while the ledger's write lock is held: other writers of this root wait for it.
A process that dies meanwhile leaves a folder without a row, which the next use of its number, or
`cleanup`, takes away.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping

from sampan.model.mounts import Mount
from sampan.storage.copying import copy_data
from sampan.storage.snapshots import Kind
from sampan.storage.snapshots.folders import Folders
from sampan.storage.snapshots.ledger import Row
from sampan.storage.snapshots.overlay import FolderSnapshotter

__all__ = ["NativeLayout", "NativeSnapshotter", "copy_tree"]


def _copy_attributes(source: str, target: str) -> None:
    for name in os.listxattr(source, follow_symlinks=False):
        with contextlib.suppress(OSError):
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)


def _finish(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, status.st_mode & 0o7777)
    _copy_attributes(source, target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def copy_tree(source: str, target: str) -> None:
    """Copy the folder `source`, which nobody else writes to, to `target`, which exists.

    Owners, modes, times, attributes, hard links, holes and devices are kept.
    """
    links: dict[tuple[int, int], str] = {}
    folders = [(source, target)]
    for here, there in folders:
        with os.scandir(here) as found:
            for one in found:
                status = one.stat(follow_symlinks=False)
                path = f"{there}/{one.name}"
                if stat.S_ISDIR(status.st_mode):
                    os.mkdir(path, 0o700)
                    folders.append((one.path, path))
                    continue
                known = links.get((status.st_dev, status.st_ino))
                if known is not None:
                    os.link(known, path, follow_symlinks=False)
                    continue
                if status.st_nlink > 1:
                    links[status.st_dev, status.st_ino] = path
                _copy_one(one.path, path, status)
    for here, there in reversed(folders):
        _finish(here, there, os.lstat(here))


def _copy_one(source: str, target: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        old = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            new = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                copy_data(old, new, status.st_size)
            finally:
                os.close(new)
        finally:
            os.close(old)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISSOCK(status.st_mode):
        return
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    _finish(source, target, status)


class NativeLayout:
    """How whole copies are laid down and mounted."""

    def __init__(self, root: str) -> None:
        self._root = root

    def make(self, folder: str, row: Row, parents: list[int], labels: Mapping[str, str]) -> None:
        os.mkdir(folder, 0o711)
        os.chmod(folder, 0o711)  # noqa: S103
        if row.kind is Kind.VIEW and parents:
            return
        fs = f"{folder}/fs"
        os.mkdir(fs, 0o755)
        os.chmod(fs, 0o755)  # noqa: S103
        if parents:
            copy_tree(f"{self._root}/snapshots/{parents[0]}/fs", fs)

    def mounts(self, row: Row, parents: list[int], labels: Mapping[str, str]) -> list[Mount]:
        shown = parents[0] if row.kind is Kind.VIEW and parents else row.id
        access = "ro" if row.kind is Kind.VIEW else "rw"
        return [Mount("bind", f"{self._root}/snapshots/{shown}/fs", options=(access, "rbind"))]


class NativeSnapshotter(FolderSnapshotter):
    """The snapshotter `native`."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Open `root`, a folder of its own."""
        path = os.path.abspath(os.fspath(root))
        super().__init__("native", Folders(path, NativeLayout(path)), frozenset())
