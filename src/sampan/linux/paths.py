"""Paths in a tree that somebody hostile may be changing: resolved once, to a descriptor.

`openat2` with RESOLVE_IN_ROOT does the walk in the kernel. `mkdirs_in_root` must create what is
missing on the way, so it walks by itself, one component at a time: each step is an
O_PATH|O_NOFOLLOW open relative to the folder in hand, a symbolic link is read from its own
descriptor and its words are queued, `..` goes back to a descriptor already held, and never past the
root. Whoever swaps a component meanwhile changes where we go inside the root, never that we
stay inside. The same walk stands in for openat2 where a seccomp filter refuses that.

`/proc` needs more: other mounts may lie over its files. `ProcHandle` is a private instance of
procfs that nobody can mount on, and every file opened through it is checked to be procfs' own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from sampan.linux._libc import by_number, check
from sampan.linux.fds import OwnedFd, write_all
from sampan.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_STRING,
    OPEN_TREE_CLONE,
    PROC_SUPER_MAGIC,
    fsconfig,
    fsmount,
    fsopen,
    open_tree,
    statfs_type,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = [
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "RENAME_WHITEOUT",
    "RESOLVE_BENEATH",
    "RESOLVE_CACHED",
    "RESOLVE_IN_ROOT",
    "RESOLVE_NO_MAGICLINKS",
    "RESOLVE_NO_SYMLINKS",
    "RESOLVE_NO_XDEV",
    "ProcHandle",
    "Statx",
    "fd_path",
    "link_fd",
    "mkdirs_in_root",
    "open_beneath",
    "open_in_root",
    "open_tmpfile",
    "openat2",
    "renameat2",
    "reopen",
    "statx",
]

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

_AT_SYMLINK_FOLLOW = 0x400
_O_TMPFILE = 0o20000000 | os.O_DIRECTORY
_MAX_LINKS = 40
_PROC_ROOT_INO = 1

_openat2 = by_number("openat2", 4)
_renameat2 = by_number("renameat2", 5)
_statx = by_number("statx", 5)
_linkat = by_number("linkat", 5)


def openat2(dirfd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` relative to `dirfd` under the RESOLVE_* rules; O_CLOEXEC is added.

    Retries EAGAIN, by which the kernel says that a rename or mount raced the resolution.

    Raises:
      OSError: EXDEV, the path left the root or, with RESOLVE_NO_XDEV, the mount; ELOOP, a forbidden
        link; E2BIG or EINVAL, a flag this kernel does not know; ENOSYS, Linux before 5.6.

    Source: openat2(2).
    """
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    raw = os.fsencode(path)
    for _ in range(128):
        fd = _openat2(dirfd, raw, how, len(how))
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    return check(fd, "openat2", path)


def open_in_root(
    root_fd: int, path: str | bytes, flags: int, mode: int = 0, *, resolve: int = 0
) -> int:
    """Open `path` as if `root_fd` were `/`; the caller owns the CLOEXEC fd.

    Absolute links and `..` stay inside; magic links are refused. `resolve` adds RESOLVE_* flags.

    Raises:
      OSError: As open(2), and ELOOP for a magic link.
    """
    wanted = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve
    try:
        return openat2(root_fd, path, flags, mode=mode, resolve=wanted)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM) or not _openat2_is_refused():
            raise
    return _open_by_walking(root_fd, path, flags, mode, resolve)


def open_beneath(dirfd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` below `dirfd`; a link or `..` that leads out is an error, not bent inwards.

    Raises:
      OSError: EXDEV, the path leads out; ELOOP, a magic link.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
    return openat2(dirfd, path, flags, mode=mode, resolve=resolve)


def _openat2_is_refused() -> bool:
    """Return whether openat2 as such is missing: EPERM may have been about the file, too."""
    how = struct.pack("=3Q", os.O_PATH | os.O_CLOEXEC, 0, 0)
    fd = _openat2(AT_FDCWD, b".", how, len(how))
    if fd >= 0:
        os.close(fd)
        return False
    return ctypes.get_errno() in (errno.ENOSYS, errno.EPERM)


def mkdirs_in_root(root_fd: int, path: str | bytes, mode: int = 0o755) -> int:
    """Return an O_PATH fd of folder `path` inside the root, making what is missing on the way.

    Dangling links on the way are followed inside the root, and their targets made. New folders get
    `mode` less the umask and inherit a setgid parent's group. The caller owns the fd.

    Raises:
      OSError: ENOTDIR, something on the way is no folder; ELOOP, more than 40 links.
    """
    return _walk(root_fd, path, make=mode, follow_last=True)


def _open_by_walking(root_fd: int, path: str | bytes, flags: int, mode: int, resolve: int) -> int:
    if resolve & ~(RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT):
        raise OSError(errno.ENOSYS, "openat2 is refused here, and needed for this", path)
    raw = os.fsencode(path)
    links = 0 if resolve & RESOLVE_NO_SYMLINKS else _MAX_LINKS
    follow = not flags & os.O_NOFOLLOW
    if not flags & os.O_CREAT:
        with OwnedFd(_walk(root_fd, raw, follow_last=follow, links=links)) as found:
            if flags & os.O_PATH:
                if flags & os.O_DIRECTORY and not stat.S_ISDIR(os.fstat(found.fd).st_mode):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                return found.detach()
            return reopen(found.fd, flags & ~os.O_NOFOLLOW)
    folder, name = os.path.split(raw.rstrip(b"/"))
    with OwnedFd(_walk(root_fd, folder, links=links)) as parent:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent.fd)


def _walk(
    root_fd: int,
    path: str | bytes,
    *,
    make: int | None = None,
    follow_last: bool = True,
    links: int = _MAX_LINKS,
) -> int:
    """Walk `path` from `root_fd` by single steps; return an O_PATH fd that the caller owns."""
    todo = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
    todo.reverse()
    held = [os.open(b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)]
    try:
        while todo:
            part = todo.pop()
            if part == b"..":
                if len(held) > 1:
                    os.close(held.pop())
                continue
            step = _step(held[-1], part, make)
            kind = stat.S_IFMT(os.fstat(step).st_mode)
            if kind == stat.S_IFLNK and (todo or follow_last):
                with OwnedFd(step):
                    target = os.readlink(b"", dir_fd=step)
                if not links:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                links -= 1
                if target.startswith(b"/"):
                    while len(held) > 1:
                        os.close(held.pop())
                todo.extend(p for p in reversed(target.split(b"/")) if p not in (b"", b"."))
                continue
            held.append(step)
            if (todo or make is not None) and kind != stat.S_IFDIR:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return held.pop()
    finally:
        for fd in held:
            os.close(fd)


def _step(folder: int, name: bytes, make: int | None) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(128):  # whoever removes what we make cannot keep us here for ever
        try:
            return os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            if make is None:
                raise
        try:  # noqa: SIM105  contextlib is slow to import
            os.mkdir(name, make, dir_fd=folder)
        except FileExistsError:
            pass
    raise OSError(errno.EAGAIN, "folder vanishes as fast as it is made", name)


def fd_path(fd: int) -> str:
    """Return a path that leads to what `fd` is, for calls that take no descriptor."""
    return f"/proc/self/fd/{fd}"


def reopen(fd: int, flags: int) -> int:
    """Open what `fd` (O_PATH) is once more, with other flags; the caller owns the new fd.

    Raises:
      OSError: ELOOP, it is a symbolic link; EROFS or EACCES as open(2).
    """
    return os.open(fd_path(fd), flags | os.O_CLOEXEC)


def renameat2(
    old_dirfd: int, old: str | bytes, new_dirfd: int, new: str | bytes, flags: int = 0
) -> None:
    """Rename, refusing to replace, exchanging, or leaving a whiteout, as `flags` (RENAME_*) say.

    Source: renameat2(2).
    """
    result = _renameat2(old_dirfd, os.fsencode(old), new_dirfd, os.fsencode(new), flags)
    check(result, "renameat2", old)


def open_tmpfile(folder_fd: int, flags: int = os.O_RDWR, mode: int = 0o600) -> int:
    """Return a nameless CLOEXEC file on the file system of `folder_fd`; the caller owns it.

    Raises:
      OSError: EOPNOTSUPP, the file system cannot.
    """
    return os.open(b".", flags | _O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder_fd)


def link_fd(fd: int, dirfd: int, name: str | bytes) -> None:
    """Give the open (nameless) file `fd` a name.

    Raises:
      FileExistsError: The name is taken. FileNotFoundError: its last name was removed.

    Source: linkat(2), by /proc, since AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH.
    """
    old = fd_path(fd).encode()
    result = _linkat(AT_FDCWD, old, dirfd, os.fsencode(name), _AT_SYMLINK_FOLLOW)
    check(result, "linkat", name)


class Statx:
    """What statx(2) says beyond `os.stat_result`. Times are nanoseconds, 0 where unknown."""

    __slots__ = ("attributes", "btime_ns", "ino", "mnt_id", "mode", "nlink", "size_bytes")

    def __init__(self, raw: bytes) -> None:
        self.attributes, self.nlink = struct.unpack_from("=QI", raw, 8)
        """STATX_ATTR_*: 0x2000 the root of a mount, 0x10 immutable, 0x20 append-only."""
        (self.mode,) = struct.unpack_from("=H", raw, 28)
        self.ino, self.size_bytes = struct.unpack_from("=QQ", raw, 32)
        seconds, nanoseconds = struct.unpack_from("=qI", raw, 80)
        self.btime_ns = seconds * 1_000_000_000 + nanoseconds
        (self.mnt_id,) = struct.unpack_from("=Q", raw, 144)

    @property
    def is_mount_root(self) -> bool:
        """Whether this is where a mount begins (Linux 5.8)."""
        return bool(self.attributes & 0x2000)


def statx(dirfd: int, path: str | bytes = b"", flags: int = AT_EMPTY_PATH) -> Statx:
    """Return the attributes of `path`, by default of `dirfd` itself; mnt_id from Linux 5.8.

    Source: statx(2).
    """
    buffer = ctypes.create_string_buffer(256)
    mask = 0x7FF | 0x800 | 0x1000  # basic, birth time, mount id
    check(_statx(dirfd, os.fsencode(path), flags, mask, buffer), "statx", path or None)
    return Statx(buffer.raw)


class ProcHandle:
    """A procfs that nobody else can mount over, and safe opening of its files.

    It is the best of three: a new private instance (needs CAP_SYS_ADMIN), a detached clone of
    the mount at /proc without what is mounted over it, or /proc itself, checked to be procfs' root.
    In every case a file is opened beneath it without crossing a mount and without magic links,
    and must lie on procfs. It is of the pid namespace its maker was in.

    Source: CVE-2019-19921, CVE-2025-52881.
    """

    __slots__ = ("root",)

    def __init__(self, *, subset_pid: bool = False) -> None:
        """Open the handle.

        Args:
          subset_pid: Only processes, not /proc/sys and the like: enough for attr, fd and maps.
        """
        self.root = OwnedFd(_proc_root(subset_pid))
        if statfs_type(self.root.fd) != PROC_SUPER_MAGIC:
            self.root.close()
            raise OSError(errno.EXDEV, "not procfs", "/proc")

    def open(self, path: str | bytes, flags: int = os.O_RDONLY) -> int:
        """Open a file, `self/...` included; the caller owns the fd.

        Raises:
          OSError: EXDEV, something is mounted over it; ELOOP, a magic link; else as open(2).
        """
        resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
        with OwnedFd(openat2(self.root.fd, path, flags, resolve=resolve)) as found:
            if statfs_type(found.fd) != PROC_SUPER_MAGIC:
                raise OSError(errno.EXDEV, "not a file of procfs", path)
            return found.detach()

    def read(self, path: str | bytes) -> bytes:
        """Return the whole content of a file."""
        with OwnedFd(self.open(path)) as file:
            chunks = [os.read(file.fd, 65536)]
            while chunks[-1]:
                chunks.append(os.read(file.fd, 65536))
            return b"".join(chunks)

    def write(self, path: str | bytes, data: bytes) -> None:
        """Write `data` in one call, as sysctl and attr files want it."""
        with OwnedFd(self.open(path, os.O_WRONLY)) as file:
            write_all(file.fd, data)

    def close(self) -> None:
        """Close the handle; files opened through it stay open."""
        self.root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _proc_root(subset_pid: bool) -> int:
    try:
        with OwnedFd(fsopen("proc")) as fs:
            if subset_pid:
                try:
                    fsconfig(fs.fd, FSCONFIG_SET_STRING, "subset", "pid")
                except OSError as error:
                    if error.errno != errno.EINVAL:  # Linux before 5.8
                        raise
            fsconfig(fs.fd, FSCONFIG_CMD_CREATE)
            return fsmount(fs.fd)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
            raise
    try:
        return open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
            raise
    with OwnedFd(os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        if os.fstat(root.fd).st_ino != _PROC_ROOT_INO:
            raise OSError(errno.EXDEV, "not the root of procfs", "/proc")
        return root.detach()
