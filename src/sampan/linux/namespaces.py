"""Namespaces: making, entering, asking the kernel about them, and mapping ids into user ones."""

from __future__ import annotations

import fcntl
import os

from sampan.linux._libc import by_number, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWTIME",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "NAMESPACES",
    "NSFS_MAGIC",
    "deny_setgroups",
    "nstype",
    "open_namespace",
    "owner_uid",
    "owner_userns",
    "parent_namespace",
    "same_namespace",
    "set_time_offsets",
    "setdomainname",
    "sethostname",
    "setns",
    "unshare",
    "write_id_map",
]

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

NAMESPACES: dict[str, int] = {
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
"""The names in /proc/PID/ns. config.json says `mount` and `network` for `mnt` and `net`."""

NSFS_MAGIC = 0x6E736673

_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_NS_GET_NSTYPE = 0xB703
_NS_GET_OWNER_UID = 0xB704

_setns = by_number("setns", 2)
_unshare = by_number("unshare", 1)
_sethostname = by_number("sethostname", 2)
_setdomainname = by_number("setdomainname", 2)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces.

    CLONE_NEWPID and CLONE_NEWTIME only concern later children, and stick to all of them.

    Raises:
      OSError: EPERM, CAP_SYS_ADMIN is missing; ENOSPC, too many or too deep; EINVAL, the kernel
        lacks that kind, or CLONE_NEWUSER in a process with several threads.

    Source: unshare(2).
    """
    check(_unshare(flags), "unshare")


def setns(fd: int, nstype: int = 0) -> None:
    """Enter the namespace behind `fd`, or with a pidfd those namespaces of it named in `nstype`.

    Raises:
      OSError: EINVAL, `nstype` does not match, or one may not enter it from here; EPERM, missing
        capabilities in the target; ESRCH, the process of the pidfd has ended.

    Source: setns(2); pidfds Linux 5.8.
    """
    check(_setns(fd, nstype), "setns")


def open_namespace(pid: int | str, name: str) -> int:
    """Return an fd, which the caller owns, of namespace `name` (a key of `NAMESPACES`) of `pid`.

    `pid_for_children` and `time_for_children` are names, too.
    """
    return os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def nstype(fd: int) -> int:
    """Return the CLONE_NEW* flag of the namespace behind `fd`.

    Raises:
      OSError: ENOTTY, `fd` is no namespace.

    Source: ioctl_nsfs(2).
    """
    return fcntl.ioctl(fd, _NS_GET_NSTYPE)


def owner_userns(fd: int) -> int:
    """Return an fd, which the caller owns, of the user namespace that owns the one behind `fd`.

    Raises:
      OSError: EPERM, the owner is outside of our own user namespace.
    """
    return fcntl.ioctl(fd, _NS_GET_USERNS)


def parent_namespace(fd: int) -> int:
    """Return an fd, which the caller owns, of the parent of a user or pid namespace.

    Raises:
      OSError: EPERM, there is none that we may see; EINVAL, this kind has no parents.
    """
    return fcntl.ioctl(fd, _NS_GET_PARENT)


def owner_uid(fd: int) -> int:
    """Return the uid, as we see it, that owns the user namespace behind `fd`."""
    slot = bytearray(4)
    fcntl.ioctl(fd, _NS_GET_OWNER_UID, slot)
    return int.from_bytes(slot, "little")


def same_namespace(one: int, other: int) -> bool:
    """Return whether two fds are of the same namespace."""
    a, b = os.fstat(one), os.fstat(other)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def write_id_map(pid: int | str, kind: str, mappings: Iterable[tuple[int, int, int]]) -> None:
    """Write the uid or gid map of the user namespace of `pid`, all of it in one write.

    Args:
      pid: A process in the namespace; its /proc files must belong to us, so before it becomes
        non-dumpable.
      kind: `uid` or `gid`.
      mappings: `(inside, outside, count)` for each range; the kernel takes 340 of them.

    Raises:
      OSError: EPERM, a map is there already, or the writer may not map these ids; EINVAL, ranges
        overlap.

    Source: user_namespaces(7).
    """
    text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in mappings)
    _write(f"/proc/{pid}/{kind}_map", text.encode())


def deny_setgroups(pid: int | str) -> None:
    """Forbid setgroups in the user namespace of `pid`: needed before an unprivileged gid map."""
    _write(f"/proc/{pid}/setgroups", b"deny")


def set_time_offsets(pid: int | str, offsets: Iterable[tuple[str, int, int]]) -> None:
    """Set `(clock, seconds, nanoseconds)` of the time namespace for the children of `pid`.

    Clocks are `monotonic` and `boottime`. Only while nobody is inside yet.

    Raises:
      OSError: EACCES, a process is inside already; ERANGE, the clock would leave its range.

    Source: time_namespaces(7).
    """
    text = "".join(f"{clock} {seconds} {nanoseconds}\n" for clock, seconds, nanoseconds in offsets)
    _write(f"/proc/{pid}/timens_offsets", text.encode())


def sethostname(name: str | bytes) -> None:
    """Change the host name of our UTS namespace."""
    raw = os.fsencode(name)
    check(_sethostname(raw, len(raw)), "sethostname")


def setdomainname(name: str | bytes) -> None:
    """Change the NIS domain name of our UTS namespace."""
    raw = os.fsencode(name)
    check(_setdomainname(raw, len(raw)), "setdomainname")


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
