"""The writable layers of a root by themselves: cloned to another root, and compared with another's.

    clone(mounts, others)     what was written to one root is written to another upon the same
                              layers: reflinked where the file system can, else copied
    changes(old, new)         what differs between two roots that share layers: folders in which
                              both have the same layers are not looked into

Mounts are what a snapshotter returned; nothing is mounted. All goes by dirfds, each thing is opened
once as a place (O_PATH), so that what a container writes meanwhile is read as it was or not at all.
What is open for writing, or mapped, is as its writer left it: overlayfs keeps no pages of its own,
so the upper file's pages are the only ones, and they are what a copy reads and a reflink flushes.

    worker(payload, fds)      fds[0]  a SEQPACKET socket for the answer, as `sandbox.workers` asks
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

from sampan import errors
from sampan.errors import InvalidArgument, ResourceExhausted
from sampan.linux import fds as fdlib
from sampan.storage import whiteouts
from sampan.storage.copying import copy_data
from sampan.storage.trees import remove_tree

__all__ = ["Layers", "changes", "clone", "layers_of", "worker"]

_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_DEEPEST = 300
_MOST_CHANGES = 1_000_000

JsonMount = list[Any]
"""Type, source, target, options."""


class Layers:
    """One mount's folders, the highest first; the highest may be written to."""

    def __init__(self, target: str, folders: list[str], *, writable: bool) -> None:
        self.target = target
        self.folders = folders
        self.writable = writable


def layers_of(mount: JsonMount) -> Layers:
    """Return the folders that a bind or overlay mount shows.

    Raises:
      InvalidArgument: it is of another type.
    """
    kind, source, target, options = mount
    if kind == "bind" or "bind" in options or "rbind" in options:
        return Layers(target, [source], writable="ro" not in options)
    if kind not in ("overlay", "fuse3.fuse-overlayfs"):
        raise InvalidArgument(f"a mount of type {kind!r} has no layers that we know")
    words = dict(option.partition("=")[::2] for option in options)
    lower = [one for one in words.get("lowerdir", "").split(":") if one]
    upper = words.get("upperdir", "")
    return Layers(target, [upper, *lower] if upper else lower, writable=bool(upper))


# --- cloning ---------------------------------------------------------------------------------


def clone(mounts: list[JsonMount], others: list[JsonMount]) -> None:
    """Make what is written in `others` what is written in `mounts`.

    Raises:
      InvalidArgument: they are not of the same shape.
      OSError: ENOSPC and the like.
    """
    if [mount[2] for mount in mounts] != [mount[2] for mount in others]:
        raise InvalidArgument("roots of different shapes cannot be cloned")
    for mount, other in zip(mounts, others, strict=True):
        one, two = layers_of(mount), layers_of(other)
        if one.writable and two.writable:
            _clone_folder(one.folders[0], two.folders[0])


def _clone_folder(source: str, target: str) -> None:
    proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    old = os.open(source, _FOLDER)
    new = os.open(target, _FOLDER)
    try:
        for name in os.listdir(new):
            remove_tree(name, new)
        _Cloner(proc, new).folder(old, new, "")
    finally:
        for fd in (proc, old, new):
            os.close(fd)


class _Cloner:
    def __init__(self, proc: int, top: int) -> None:
        self._proc = proc
        self._top = top
        self._links: dict[tuple[int, int], str] = {}

    def folder(self, old: int, new: int, path: str) -> None:
        """Copy what is in the folder `old` to the empty `new`, then its own attributes.

        `path` leads to the new one from the top, which is nobody's but ours; it ends in a slash.
        """
        if path.count("/") > _DEEPEST:
            raise ResourceExhausted(f"folders are nested deeper than {_DEEPEST}")
        for name in os.listdir(old):
            try:
                place = os.open(name, _PLACE, dir_fd=old)
            except FileNotFoundError:
                continue
            try:
                self._one(place, name, new, path)
            finally:
                os.close(place)
        status = os.fstat(old)
        os.fchown(new, status.st_uid, status.st_gid)
        os.fchmod(new, stat.S_IMODE(status.st_mode))
        _attributes(old, new)
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _one(self, place: int, name: str, new: int, path: str) -> None:
        status = os.fstat(place)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=new)
            source = os.open(".", _FOLDER, dir_fd=place)
            target = os.open(name, _FOLDER, dir_fd=new)
            try:
                self.folder(source, target, f"{path}{name}/")
            finally:
                os.close(source)
                os.close(target)
            return
        if kind == stat.S_IFSOCK:
            return
        if status.st_nlink > 1 and not whiteouts.is_whiteout(status):
            known = self._links.get((status.st_dev, status.st_ino))
            if known is not None:
                os.link(known, name, src_dir_fd=self._top, dst_dir_fd=new, follow_symlinks=False)
                return
            self._links[status.st_dev, status.st_ino] = path + name
        if kind == stat.S_IFREG:
            self._file(place, status, name, new)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink("", dir_fd=place), name, dir_fd=new)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=new)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=new, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=new, follow_symlinks=False)

    def _file(self, place: int, status: os.stat_result, name: str, new: int) -> None:
        source = os.open(str(place), _FILE, dir_fd=self._proc)
        try:
            target = os.open(name, _CREATE, 0o600, dir_fd=new)
            try:
                copy_data(source, target, os.fstat(source).st_size)
                os.fchown(target, status.st_uid, status.st_gid)
                os.fchmod(target, stat.S_IMODE(status.st_mode))
                _attributes(source, target)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)


def _attributes(old: int, new: int) -> None:
    for name in os.listxattr(old):
        with contextlib.suppress(OSError):
            os.setxattr(new, name, os.getxattr(old, name))


# --- comparing -------------------------------------------------------------------------------


def changes(old: list[JsonMount], new: list[JsonMount]) -> Iterator[tuple[str, str]]:
    """Yield paths and `added`, `modified` or `deleted`: what turns the root `old` into `new`."""
    before = {one.target: one for one in map(layers_of, old)}
    for after in map(layers_of, new):
        one = before.get(after.target)
        with contextlib.ExitStack() as stack:
            opened = [_opened(layers.folders if layers else [], stack) for layers in (one, after)]
            yield from _compared(after.target.rstrip("/"), opened[0], opened[1], 0)


def base(mounts: list[JsonMount]) -> list[JsonMount]:
    """Return overlay mounts without what was written to them."""
    found = []
    for kind, source, target, options in mounts:
        kept = [o for o in options if not o.startswith(("upperdir=", "workdir="))]
        found.append([kind, source, target, kept])
    return found


def _opened(folders: list[str], stack: contextlib.ExitStack) -> list[int]:
    fds = []
    for folder in folders:
        fds.append(os.open(folder, _FOLDER))
        stack.callback(os.close, fds[-1])
    return fds


def _compared(path: str, old: list[int], new: list[int], depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEEPEST:
        raise ResourceExhausted(f"folders are nested deeper than {_DEEPEST}: {path[:80]}")
    known = [{_key(fd): fd for fd in fds} for fds in (old, new)]
    own = [known[0][key] for key in known[0].keys() - known[1].keys()]
    own += [known[1][key] for key in known[1].keys() - known[0].keys()]
    names = {name for fd in own for name in os.listdir(fd)}
    for name in sorted(names):
        with contextlib.ExitStack() as stack:
            before, below = _found(old, name, stack)
            after, above = _found(new, name, stack)
            where = f"{path}/{name}"
            if after is None:
                if before is not None:
                    yield where, "deleted"
                continue
            if before is None:
                yield where, "added"
            elif _differs(before, after, old, new, name):
                yield where, "modified"
            if above:
                yield from _compared(where, below, above, depth + 1)


def _key(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _found(
    layers: list[int], name: str, stack: contextlib.ExitStack
) -> tuple[os.stat_result | None, list[int]]:
    """Return what overlayfs shows under a name, and if it is a folder its layers."""
    status: os.stat_result | None = None
    folders: list[int] = []
    for layer in layers:
        try:
            here = os.stat(name, dir_fd=layer, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if whiteouts.is_whiteout(here):
            break
        if not stat.S_ISDIR(here.st_mode):
            if status is None:
                return here, []
            break
        try:
            fd = os.open(name, _FOLDER, dir_fd=layer)
        except OSError as err:
            if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue  # it changed meanwhile
            raise
        stack.callback(os.close, fd)
        status = status or here
        folders.append(fd)
        if _is_opaque(fd):
            break
    return status, folders


def _is_opaque(fd: int) -> bool:
    for name in _OPAQUE:
        with contextlib.suppress(OSError):
            if os.getxattr(fd, name) == b"y":
                return True
    return False


def _differs(
    before: os.stat_result, after: os.stat_result, old: list[int], new: list[int], name: str
) -> bool:
    if (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino):
        return False
    for field in ("st_mode", "st_uid", "st_gid", "st_rdev"):
        if getattr(before, field) != getattr(after, field):
            return True
    if stat.S_ISDIR(after.st_mode):
        return False
    if stat.S_ISLNK(after.st_mode):
        return _target(old, name) != _target(new, name)
    return before.st_size != after.st_size or before.st_mtime_ns != after.st_mtime_ns


def _target(layers: list[int], name: str) -> str:
    for layer in layers:
        with contextlib.suppress(OSError):
            return os.readlink(name, dir_fd=layer)
    return ""


# --- the worker ------------------------------------------------------------------------------


def worker(payload: bytes, given: list[int]) -> int:
    """Clone or compare as `payload` asks; see the module."""
    request = json.loads(payload)
    answer = _socket.socket(fileno=given[0])
    passed: list[int] = []
    os.umask(0)
    try:
        if request["call"] == "clone":
            clone(request["mounts"], request["others"])
        else:
            old = request["old"] or base(request["new"])
            memory = os.memfd_create("changes")
            with open(memory, "wb", closefd=False) as file:
                for count, (path, kind) in enumerate(changes(old, request["new"])):
                    if count >= _MOST_CHANGES:
                        raise ResourceExhausted(f"more than {_MOST_CHANGES} changes")
                    line = json.dumps([path, kind]).encode("utf-8", "surrogatepass")
                    file.write(line + b"\n")
            passed.append(memory)
        said: list[Any] = ["ok", None]
    except errors.SampanError as err:
        said = [type(err).__name__, str(err)]
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        said = ["ResourceExhausted" if full else "Unknown", f"{request['call']}: {err}"]
    fdlib.send_fds(answer, json.dumps(said).encode("utf-8", "surrogatepass"), passed)
    return 0
