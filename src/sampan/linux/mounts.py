"""Mounting: the old calls, the fd-based ones of Linux 5.2 and later, mountinfo and statfs.

Prefer the fd-based calls. `fsopen`/`fsconfig`/`fsmount` have no page-size limit on options and say
in words what went wrong; `open_tree`, `move_mount` and `mount_setattr` work on a mount that nobody
else can reach yet, so that nothing races.
"""

from __future__ import annotations

import ctypes
import os
import struct

from sampan.linux._libc import by_number, check, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

AT_FDCWD = -100
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_SYMLINKS = 0x01
MOVE_MOUNT_F_AUTOMOUNTS = 0x02
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_AUTOMOUNTS = 0x20
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOVE_MOUNT_SET_GROUP = 0x100
MOVE_MOUNT_BENEATH = 0x200

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_BINARY = 2
FSCONFIG_SET_PATH = 3
FSCONFIG_SET_PATH_EMPTY = 4
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
FSCONFIG_CMD_CREATE_EXCL = 8

FSPICK_SYMLINK_NOFOLLOW = 2
FSPICK_NO_AUTOMOUNT = 4
FSPICK_EMPTY_PATH = 8

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
TMPFS_MAGIC = 0x01021994
OVERLAYFS_SUPER_MAGIC = 0x794C7630
CGROUP_SUPER_MAGIC = 0x27E0EB
CGROUP2_SUPER_MAGIC = 0x63677270
DEVPTS_SUPER_MAGIC = 0x1CD1
MQUEUE_MAGIC = 0x19800202

_mount = by_number("mount", 5)
_umount2 = by_number("umount2", 2)
_pivot_root = by_number("pivot_root", 2)
_open_tree = by_number("open_tree", 3)
_move_mount = by_number("move_mount", 5)
_fsopen = by_number("fsopen", 2)
_fsconfig = by_number("fsconfig", 5)
_fsmount = by_number("fsmount", 3)
_fspick = by_number("fspick", 3)
_mount_setattr = by_number("mount_setattr", 5)
_statfs = by_number("statfs", 2)
_fstatfs = by_number("fstatfs", 2)


def mount(
    source: str | bytes | None,
    target: str | bytes,
    fstype: str | bytes | None = None,
    flags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """Mount, bind, remount, move, or change propagation, as `flags` say (MS_*).

    Source: mount(2). Mount on `/proc/self/fd/N` where the target's path cannot be trusted.
    """
    check(
        _mount(
            None if source is None else os.fsencode(source),
            os.fsencode(target),
            None if fstype is None else os.fsencode(fstype),
            flags,
            None if data is None else os.fsencode(data),
        ),
        "mount",
        target,
    )


def umount2(target: str | bytes, flags: int = 0) -> None:
    """Unmount `target`. MNT_DETACH is never busy; UMOUNT_NOFOLLOW where links are not trusted.

    Raises:
      OSError: EBUSY, in use; EINVAL, no mount point, or locked by a more privileged namespace.

    Source: umount2(2).
    """
    check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str | bytes, put_old: str | bytes) -> None:
    """Make `new_root` the root of our mount namespace and put the old one at `put_old`.

    `pivot_root(".", ".")` stacks the old root over the new one, to be detached at once.

    Raises:
      OSError: EINVAL, `new_root` is no mount point, or its parent mount or the old root is shared,
        or the old root is a rootfs (initramfs); EBUSY, the two are the same mount.

    Source: pivot_root(2).
    """
    check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def open_tree(dirfd: int, path: str | bytes, flags: int = 0) -> int:
    """Return an O_PATH fd of a mount, or with OPEN_TREE_CLONE of a detached copy of it.

    Args:
      dirfd: Folder that `path` is relative to; AT_FDCWD; with AT_EMPTY_PATH the object itself.
      path: The object.
      flags: OPEN_TREE_CLONE, AT_RECURSIVE, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT.

    Source: open_tree(2), Linux 5.2.
    """
    result = _open_tree(dirfd, os.fsencode(path), flags | os.O_CLOEXEC)
    return check(result, "open_tree", path or None)


def move_mount(
    from_dirfd: int, from_path: str | bytes, to_dirfd: int, to_path: str | bytes, flags: int = 0
) -> None:
    """Attach a detached mount, or move an attached one.

    An empty path needs MOVE_MOUNT_F_EMPTY_PATH or MOVE_MOUNT_T_EMPTY_PATH.

    Source: move_mount(2), Linux 5.2.
    """
    result = _move_mount(from_dirfd, os.fsencode(from_path), to_dirfd, os.fsencode(to_path), flags)
    check(result, "move_mount", to_path or None)


def attach(mount_fd: int, target_fd: int) -> None:
    """Attach the detached mount `mount_fd` on what `target_fd` is; no path is looked up."""
    move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def fsopen(fstype: str | bytes) -> int:
    """Return a CLOEXEC fd for configuring a new file system; the caller owns it.

    Raises:
      OSError: ENODEV, the kernel does not know the type; EPERM, no CAP_SYS_ADMIN.

    Source: fsopen(2), Linux 5.2.
    """
    return check(_fsopen(os.fsencode(fstype), 1), "fsopen", fstype)


def fsconfig(
    fs_fd: int,
    command: int,
    key: str | bytes | None = None,
    value: str | bytes | None = None,
    aux: int = 0,
) -> None:
    """Give the file system behind `fs_fd` one option, or carry a FSCONFIG_CMD_* out.

    Raises:
      OSError: With the kernel's own explanation, where the file system gave one.

    Source: fsconfig(2), Linux 5.2.
    """
    result = _fsconfig(
        fs_fd,
        command,
        None if key is None else os.fsencode(key),
        None if value is None else os.fsencode(value),
        aux,
    )
    if result < 0:
        error = fail("fsconfig", key)
        said = fs_messages(fs_fd)
        if said:
            raise OSError(error.errno, f"{error.strerror} ({'; '.join(said)})", error.filename)
        raise error


def fs_messages(fs_fd: int) -> list[str]:
    """Return, and remove, what the kernel has to say about a file system being configured."""
    said: list[str] = []
    while len(said) < 32:
        try:
            line = os.read(fs_fd, 4096)
        except OSError:
            break
        said.append(line.decode(errors="replace").strip())
    return said


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    """Return a detached mount (O_PATH, CLOEXEC) of a configured file system; the caller owns it.

    `attributes` are MOUNT_ATTR_*. Source: fsmount(2), Linux 5.2.
    """
    return check(_fsmount(fs_fd, 1, attributes), "fsmount")


def fspick(dirfd: int, path: str | bytes, flags: int = 0) -> int:
    """Return a CLOEXEC fd for reconfiguring a mounted file system; the caller owns it.

    Source: fspick(2), Linux 5.2.
    """
    return check(_fspick(dirfd, os.fsencode(path), flags | 1), "fspick", path or None)


def mount_new(
    fstype: str, options: dict[str, str | None], attributes: int = 0, *, source: str | None = None
) -> int:
    """Return a detached mount of a new file system; the caller owns the fd.

    Args:
      fstype: The file system's type.
      options: Names to values; None is a flag without a value.
      attributes: MOUNT_ATTR_*.
      source: What mountinfo shows, and what a block file system mounts.
    """
    fs_fd = fsopen(fstype)
    try:
        if source is not None:
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", source)
        for key, value in options.items():
            if value is None:
                fsconfig(fs_fd, FSCONFIG_SET_FLAG, key)
            else:
                fsconfig(fs_fd, FSCONFIG_SET_STRING, key, value)
        fsconfig(fs_fd, FSCONFIG_CMD_CREATE)
        return fsmount(fs_fd, attributes)
    finally:
        os.close(fs_fd)


def mount_setattr(
    dirfd: int,
    path: str | bytes,
    flags: int = 0,
    *,
    add: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Change the attributes of a mount or, with AT_RECURSIVE, of the whole tree under it at once.

    May wait for the mount namespace's lock: from an event loop, go through a thread.

    Args:
      dirfd: Folder that `path` is relative to; the mount itself with AT_EMPTY_PATH.
      path: The mount point.
      flags: AT_RECURSIVE, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT.
      add: MOUNT_ATTR_* to set.
      clear: MOUNT_ATTR_* to clear, first. To set an atime mode, clear MOUNT_ATTR__ATIME.
      propagation: MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE.
      userns_fd: User namespace whose maps an idmapped mount takes; with MOUNT_ATTR_IDMAP.

    Raises:
      OSError: EBUSY, a file is open for writing under what is to become read-only; EINVAL, the
        path is no mount point, or the file system allows no idmap; ENOSYS, Linux before 5.12.

    Source: mount_setattr(2).
    """
    attributes = struct.pack("=4Q", add, clear, propagation, userns_fd)
    result = _mount_setattr(dirfd, os.fsencode(path), flags, attributes, len(attributes))
    check(result, "mount_setattr", path or None)


class MountInfo:
    """One line of mountinfo. Paths are bytes, unescaped. Source: proc_pid_mountinfo(5)."""

    __slots__ = (
        "device",
        "fstype",
        "id",
        "mount_point",
        "optional",
        "options",
        "parent_id",
        "root",
        "source",
        "super_options",
    )

    def __init__(self, line: bytes) -> None:
        fields = line.split(b" ")
        separator = fields.index(b"-", 6)
        self.id = int(fields[0])
        self.parent_id = int(fields[1])
        major, minor = fields[2].split(b":")
        self.device = os.makedev(int(major), int(minor))
        """As st_dev of the files on it (not so on btrfs and some overlays)."""
        self.root = _unescape(fields[3])
        """Which part of the file system is mounted, from its own root."""
        self.mount_point = _unescape(fields[4])
        self.options = fields[5].split(b",")
        """Of this mount: rw, nosuid, relatime, ..."""
        self.optional = fields[6:separator]
        """Propagation: shared:N, master:N, propagate_from:N, unbindable."""
        self.fstype = fields[separator + 1]
        self.source = _unescape(fields[separator + 2])
        self.super_options = fields[separator + 3].split(b",")
        """Of the file system, the same in all its mounts."""

    def __repr__(self) -> str:
        return f"<{os.fsdecode(self.fstype)} on {os.fsdecode(self.mount_point)} id {self.id}>"


def mountinfo(pid: int | str = "self") -> Iterator[MountInfo]:
    """Yield the mounts that process `pid` sees, in the order in which they were made.

    The file is read in one go first, so a change of the table meanwhile tears no line apart.
    """
    data = read_all(f"/proc/{pid}/mountinfo")
    for line in data.splitlines():
        yield MountInfo(line)


def read_all(path: str, dirfd: int | None = None) -> bytes:
    """Return the content of a file of /proc, /sys or a cgroup; their size is unknown beforehand."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        first = os.read(fd, 65536)
        chunks = [first]
        while chunks[-1]:
            chunks.append(os.read(fd, 65536))
        return b"".join(chunks)
    finally:
        os.close(fd)


def _unescape(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    out = bytearray()
    at = 0
    while at < len(field):
        if field[at] == 0x5C and field[at + 1 : at + 4].isdigit():
            out.append(int(field[at + 1 : at + 4], 8))
            at += 4
        else:
            out.append(field[at])
            at += 1
    return bytes(out)


def statfs_type(path_or_fd: str | bytes | int) -> int:
    """Return the magic number of the file system that a path or fd (O_PATH, too) lies on.

    Source: statfs(2).
    """
    buffer = ctypes.create_string_buffer(120)
    if isinstance(path_or_fd, int):
        check(_fstatfs(path_or_fd, buffer), "fstatfs")
    else:
        check(_statfs(os.fsencode(path_or_fd), buffer), "statfs", path_or_fd)
    return int.from_bytes(buffer.raw[:8], "little")
