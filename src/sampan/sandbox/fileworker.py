"""The confined child that touches a sandbox's files: forked by the zygote, one for each call.

    worker(payload, fds)      fds[0]  a SEQPACKET socket: the answer, with fds that belong to it
                              fds[1]  a pidfd of the sandbox's first process, or with `"folder"`
                                      the folder to work in
                              more    as the operation says

It opens the root of that process, makes it its own root, gives up every capability but those over
files, and only then looks at a path; each path is walked by the kernel inside the root (openat2,
RESOLVE_IN_ROOT, no magic links) to an fd that is never looked up again. The answer is
`["ok", value]` or `[class of sampan.errors, text]`. Nothing is imported after the fork.
"""

from __future__ import annotations

import _socket
import encodings.ascii  # noqa: F401 - codecs are looked up late, and imports are refused
import errno
import json
import os
import select
import stat
from collections.abc import Callable
from typing import Any

from sampan import errors
from sampan.client.spec.users import resolve
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.linux import capabilities, fds, namespaces, prctl
from sampan.linux.paths import open_in_root
from sampan.sandbox.packing import pack
from sampan.storage.compression import Stream
from sampan.storage.diff.apply import Applier
from sampan.storage.tar import Caps
from sampan.storage.trees import remove_tree

__all__ = ["worker"]

_KEPT = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP")
_PLACE = os.O_PATH | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_QUIET = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_RACES = 64
_MOST_NAMES = 100_000

Answer = tuple[Any, list[int]]


class _Root:
    """The sandbox's root, ours by now, and what we opened before it was."""

    def __init__(self, fd: int, owner: tuple[int, int], given: list[int]) -> None:
        self.fd = fd
        self.owner = owner
        """Ids that are the sandbox's root."""
        self.given = given
        self.proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def reopen(self, place: int, flags: int) -> int:
        """Open what `place` is, with other flags."""
        return os.open(str(place), flags | _QUIET, dir_fd=self.proc)

    def ids(self, user: str) -> tuple[int, int]:
        """Return the owner that a call asks for; empty is the sandbox's root."""
        if not user:
            return self.owner
        found = resolve(user, self.fd)
        return self.owner[0] + found.uid, self.owner[1] + found.gid


def worker(payload: bytes, given: list[int]) -> int:
    """Do what `payload` asks; see the module."""
    request = json.loads(payload)
    answer = _socket.socket(fileno=given[0])
    passed: list[int] = []
    try:
        root = _enter(request, given[1], given[2:])
        value, passed = _CALLS[request["call"]](root, request)
        said: list[Any] = ["ok", value]
    except errors.SampanError as err:
        said = [type(err).__name__, str(err)]
    except OSError as err:
        said = _of_os_error(err, request.get("path", ""))
    except Exception as err:  # noqa: BLE001 - the edge of a program: our own fault, told as such
        said = ["Internal", f"{request.get('call')}: {type(err).__name__}: {err}"]
    fds.send_fds(answer, json.dumps(said).encode("utf-8", "surrogatepass"), passed)
    return 0


def _of_os_error(err: OSError, path: str) -> list[Any]:
    kinds = {
        errno.ENOENT: "NotFound",
        errno.EEXIST: "AlreadyExists",
        errno.ENOSPC: "ResourceExhausted",
        errno.EDQUOT: "ResourceExhausted",
        errno.EROFS: "PermissionDenied",
        errno.EACCES: "PermissionDenied",
        errno.EPERM: "PermissionDenied",
        errno.ENAMETOOLONG: "InvalidArgument",
        errno.EINVAL: "InvalidArgument",
    }
    return [kinds.get(err.errno or 0, "FailedPrecondition"), f"{path}: {err.strerror}"]


def _enter(request: dict[str, Any], where: int, given: list[int]) -> _Root:
    """Make the sandbox's root our own, and give up what is not needed there."""
    if request.get("folder"):
        root = _Root(os.open(".", _FOLDER, dir_fd=where), tuple(request["ids"]), given)
    else:
        pid = int(request["pid"])
        fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        owner = _owner(pid)
        poll = select.poll()
        poll.register(where, select.POLLIN)
        if poll.poll(0):
            # It ended before we had its root, and the number may be another's by now.
            raise NotFound("the sandbox has ended")
        root = _Root(fd, owner, given)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    os.fchdir(root.fd)
    os.chroot(".")
    keep = capabilities.set_of(_KEPT) & capabilities.capget()[1]
    capabilities.capset(keep, keep, 0)
    prctl.set_no_new_privs()
    os.umask(0)
    return root


def _owner(pid: int) -> tuple[int, int]:
    """Return what the sandbox's ids 0 are to us."""
    ours, theirs = (os.stat(f"/proc/{who}/ns/user") for who in ("self", pid))
    if os.path.samestat(ours, theirs):
        return 0, 0
    found = []
    for kind in ("uid", "gid"):
        with open(f"/proc/{pid}/{kind}_map", encoding="ascii") as file:
            rows = [line.split() for line in file]
        found.append(next((int(row[1]) for row in rows if row[0] == "0"), 65534))
    return found[0], found[1]


def _split(path: str) -> tuple[str, str]:
    if "\0" in path or not path.startswith("/"):
        raise InvalidArgument(f"path {path!r} is not absolute")
    folder, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise InvalidArgument(f"path {path!r} does not end in a name")
    return folder or "/", name


def _mkdirs(root: _Root, path: str, mode: int, ids: tuple[int, int]) -> int:
    """Return an O_PATH fd of the folder, made with all on the way if need be."""
    for _ in range(_RACES):
        try:
            return open_in_root(root.fd, path, _PLACE | os.O_DIRECTORY)
        except FileNotFoundError:
            folder, name = _split(path)
        parent = _mkdirs(root, folder, mode, ids)
        try:
            os.mkdir(name, mode, dir_fd=parent)
            os.chown(name, *ids, dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise FailedPrecondition(f"{path} is a link that leads nowhere") from None
        finally:
            os.close(parent)
    raise FailedPrecondition(f"{path} changes as fast as it is made")


def _regular(place: int, path: str) -> None:
    mode = os.fstat(place).st_mode
    if stat.S_ISDIR(mode):
        raise FailedPrecondition(f"{path} is a folder")
    if not stat.S_ISREG(mode):
        raise FailedPrecondition(f"{path} is no regular file")


def _open(root: _Root, request: dict[str, Any]) -> Answer:
    """Open a file; `flags` are those of open(2), of which O_CREAT, O_EXCL and O_TRUNC are ours."""
    path, flags = request["path"], int(request["flags"])
    _split(path)
    access = flags & (os.O_ACCMODE | os.O_APPEND | os.O_TRUNC)
    ids: tuple[int, int] | None = None
    for _ in range(_RACES):
        try:
            place = open_in_root(root.fd, path, _PLACE)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        else:
            try:
                if flags & os.O_EXCL:
                    raise AlreadyExists(f"{path} is there already")
                _regular(place, path)
                return None, [root.reopen(place, access)]
            finally:
                os.close(place)
        ids = ids or root.ids(request.get("user", ""))
        made = _create(root, path, access, int(request.get("mode", 0o644)), ids)
        if made >= 0:
            return None, [made]
    raise FailedPrecondition(f"{path} changes as fast as it is opened")


def _create(root: _Root, path: str, access: int, mode: int, ids: tuple[int, int]) -> int:
    """Make a file where none was; -1 when somebody else was quicker."""
    folder, name = _split(path)
    parent = _mkdirs(root, folder, 0o755, ids)
    try:
        flags = access & ~os.O_TRUNC | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | _QUIET
        fd = os.open(name, flags, mode & 0o777, dir_fd=parent)
    except FileExistsError:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise FailedPrecondition(f"{path} is a link that leads nowhere") from None
        return -1
    finally:
        os.close(parent)
    os.fchown(fd, *ids)
    os.fchmod(fd, mode & 0o7777)
    return fd


def _info(place: int, name: str, owner: tuple[int, int]) -> list[Any]:
    status = os.fstat(place)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
    target = os.fsdecode(os.readlink(b"", dir_fd=place)) if kind == "link" else ""
    return [
        name,
        kind,
        status.st_size,
        stat.S_IMODE(status.st_mode),
        status.st_uid - owner[0],
        status.st_gid - owner[1],
        status.st_mtime_ns / 1e9,
        target,
    ]


def _stat(root: _Root, request: dict[str, Any]) -> Answer:
    path = request["path"]
    place = open_in_root(root.fd, path, _PLACE | os.O_NOFOLLOW)
    return _info(place, path.rstrip("/").rpartition("/")[2] or "/", root.owner), []


def _list(root: _Root, request: dict[str, Any]) -> Answer:
    folder = open_in_root(root.fd, request["path"], _FOLDER)
    names = os.listdir(folder)
    if len(names) > _MOST_NAMES:
        raise errors.ResourceExhausted(f"{request['path']} has more than {_MOST_NAMES} names")
    found = []
    for name in sorted(names):
        try:
            place = os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            continue
        found.append(_info(place, name, root.owner))
        os.close(place)
    # Longer than a message may be: by a memory file.
    memory = os.memfd_create("listing")
    with open(memory, "wb", closefd=False) as file:
        file.write(json.dumps(found).encode("utf-8", "surrogatepass"))
    return None, [memory]


def _mkdir(root: _Root, request: dict[str, Any]) -> Answer:
    ids = root.ids(request.get("user", ""))
    _mkdirs(root, request["path"], int(request["mode"]), ids)
    return None, []


def _remove(root: _Root, request: dict[str, Any]) -> Answer:
    folder, name = _split(request["path"])
    try:
        parent = open_in_root(root.fd, folder, _FOLDER)
    except FileNotFoundError:
        return None, []
    remove_tree(name, parent)
    return None, []


def _user(root: _Root, request: dict[str, Any]) -> Answer:
    found = resolve(request["user"], root.fd)
    return [found.uid, found.gid, list(found.additional_gids)], []


def _pack(root: _Root, request: dict[str, Any]) -> Answer:
    """Write a folder to the pipe given[0]."""
    place = open_in_root(root.fd, request["path"], _PLACE)
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        _regular(place, request["path"])
        return "file", [root.reopen(place, os.O_RDONLY)]
    pack(place, root.given[0], proc_fd=root.proc, whole=bool(request.get("whole")))
    return "folder", []


def _unpack(root: _Root, request: dict[str, Any]) -> Answer:
    """Apply the archive that comes by the pipe given[0] to a folder, which is made if need be."""
    ids = tuple(request["ids"]) if "ids" in request else root.ids(request.get("user", ""))
    place = _mkdirs(root, request["path"], 0o755, (ids[0], ids[1]))
    stream = Stream(root.given[0], "", Caps())
    try:
        applier = Applier(place, ids=(ids[0], ids[1]), literal=True)
        try:
            applier.apply(stream)
            stream.finish()
        finally:
            applier.close()
    finally:
        stream.close()
    return None, []


_CALLS: dict[str, Callable[[_Root, dict[str, Any]], Answer]] = {
    "open": _open,
    "stat": _stat,
    "list": _list,
    "mkdir": _mkdir,
    "remove": _remove,
    "user": _user,
    "pack": _pack,
    "unpack": _unpack,
}
