"""File descriptors: who owns them, which survive, and how they travel.

Also what lives behind one: sealed memory files, locks, and sockets whose path is too long for
sockaddr_un.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from sampan.linux._libc import by_number, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Any, Self

__all__ = [
    "CLOSE_RANGE_CLOEXEC",
    "CLOSE_RANGE_UNSHARE",
    "F_SEAL_ALL",
    "OwnedFd",
    "cloexec_all_from",
    "close_all_but",
    "close_range",
    "is_sealed",
    "list_fds",
    "lock",
    "memfd_create",
    "recv_fds",
    "seal",
    "sealed_memfd",
    "send_fds",
    "set_cloexec",
    "unix_bind",
    "unix_connect",
    "unlock",
    "write_all",
]

CLOSE_RANGE_UNSHARE = 2
CLOSE_RANGE_CLOEXEC = 4
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 0x10
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_F_OFD_SETLK, _F_OFD_SETLKW = 37, 38
F_SEAL_ALL = 0x1 | 0x2 | 0x4 | 0x8
"""No more sealing, shrinking, growing or writing."""
_LAST = 0xFFFFFFFF
_MSG_CMSG_CLOEXEC = 0x40000000
_SUN_PATH = 107

_close_range = by_number("close_range", 3)
_memfd_create = by_number("memfd_create", 2)


class OwnedFd:
    """A descriptor that somebody must close: a context manager, -1 once closed or given away."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        """Return the number; -1 if it is no longer ours."""
        return self.fd

    def detach(self) -> int:
        """Give the descriptor away: the caller closes it."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close it; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OwnedFd({self.fd})"


def close_range(first: int, last: int = _LAST, flags: int = 0) -> None:
    """Close, or with CLOSE_RANGE_CLOEXEC mark, all descriptors from `first` to `last`.

    Raises:
      OSError: ENOSYS, Linux before 5.9; EINVAL, CLOSE_RANGE_CLOEXEC before 5.11.

    Source: close_range(2).
    """
    check(_close_range(first, last, flags), "close_range")


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor, the standard ones included, but those in `keep`.

    Python objects that owned what is closed do not know it; meant for a child just forked.
    """
    first = 0
    try:
        for fd in sorted(set(keep)):
            if fd > first:
                close_range(first, fd - 1)
            first = fd + 1
        close_range(first)
    except OSError as error:
        if error.errno not in (1, 22, 38):  # EPERM and ENOSYS: an old kernel or a seccomp filter
            raise
        kept = set(keep)
        for fd in list_fds():
            if fd not in kept:
                try:
                    os.close(fd)
                except OSError as closing:
                    if closing.errno != 9:
                        raise


def cloexec_all_from(first: int) -> None:
    """Mark every descriptor from `first` on as close-on-exec."""
    try:
        close_range(first, _LAST, CLOSE_RANGE_CLOEXEC)
    except OSError as error:
        if error.errno not in (1, 22, 38):
            raise
        for fd in list_fds():
            if fd >= first:
                set_cloexec(fd, True)


def list_fds() -> list[int]:
    """Return our open descriptors, without those it took to look."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            fcntl.fcntl(int(name), fcntl.F_GETFD)
        except OSError:  # the folder itself, closed again by now
            continue
        found.append(int(name))
    return sorted(found)


def set_cloexec(fd: int, cloexec: bool) -> None:
    """Set or clear close-on-exec."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFD)
    flags = flags | fcntl.FD_CLOEXEC if cloexec else flags & ~fcntl.FD_CLOEXEC
    fcntl.fcntl(fd, fcntl.F_SETFD, flags)


def send_fds(sock: _socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send `data` (not empty) with duplicates of `fds` over a unix socket; at most 253 fds.

    Raises:
      OSError: EPIPE, the peer is gone; EMSGSIZE, too long for a SEQPACKET; ETOOMANYREFS.

    Source: unix(7), SCM_RIGHTS.
    """
    ancillary = []
    if fds:
        rights = struct.pack(f"={len(fds)}i", *fds)
        ancillary.append((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights))
    sent = sock.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)
    while sent < len(data):  # a stream took part of it; the fds went with the first byte
        sent += sock.send(data[sent:], _socket.MSG_NOSIGNAL)


def recv_fds(sock: _socket.socket, size: int, max_fds: int = 253) -> tuple[bytes, list[int]]:
    """Receive at most `size` bytes and the fds (CLOEXEC) that came along; the caller owns them.

    Empty data means that the peer has closed.

    Raises:
      OSError: EMSGSIZE, data or descriptors were cut off; those that arrived are closed.
    """
    space = _socket.CMSG_SPACE(4 * max_fds) if max_fds else 0
    data, ancillary, flags, _ = sock.recvmsg(size, space, _MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            usable = len(content) - len(content) % 4
            fds.extend(struct.unpack(f"={usable // 4}i", content[:usable]))
    if flags & (_socket.MSG_CTRUNC | _socket.MSG_TRUNC):
        for fd in fds:
            os.close(fd)
        raise OSError(90, "recvmsg: message longer than allowed")
    return data, fds


def memfd_create(name: str, *, sealable: bool = True, executable: bool = False) -> int:
    """Return a CLOEXEC file in memory; the caller owns it.

    With `executable` it also works where `vm.memfd_noexec` is 1 (Linux 6.3).
    """
    flags = _MFD_CLOEXEC | (_MFD_ALLOW_SEALING if sealable else 0)
    if executable:
        fd = _memfd_create(name.encode() + b"\0", flags | _MFD_EXEC)
        if fd >= 0:
            return fd
    return check(_memfd_create(name.encode() + b"\0", flags), "memfd_create")


def seal(fd: int, seals: int = F_SEAL_ALL) -> None:
    """Forbid further changes for ever.

    Raises:
      OSError: EBUSY, a writable mapping exists.
    """
    fcntl.fcntl(fd, _F_ADD_SEALS, seals)


def is_sealed(fd: int, seals: int = F_SEAL_ALL) -> bool:
    """Return whether `fd` is a memory file that has all of `seals`."""
    try:
        return fcntl.fcntl(fd, _F_GET_SEALS) & seals == seals
    except OSError:
        return False


def sealed_memfd(name: str, data: bytes) -> int:
    """Return a memory file that holds `data` and can never change; the caller owns it."""
    with OwnedFd(memfd_create(name)) as memfd:
        write_all(memfd.fd, data)
        os.lseek(memfd.fd, 0, os.SEEK_SET)
        seal(memfd.fd)
        return memfd.detach()


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def lock(fd: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock the whole file for this open file description; return False if another holds it.

    Such a lock belongs to the description, not the process: it survives fork and the closing of
    other fds of the same file, and ends when the last duplicate is closed, however the owner dies.
    An exclusive lock needs an fd open for writing.

    Source: fcntl(2), F_OFD_SETLK.
    """
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, _F_OFD_SETLKW if wait else _F_OFD_SETLK, _flock(kind))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(fd: int) -> None:
    """Give the lock of `lock` up."""
    fcntl.fcntl(fd, _F_OFD_SETLK, _flock(fcntl.F_UNLCK))


def _flock(kind: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)


def unix_bind(sock: _socket.socket, path: str | bytes) -> None:
    """Bind a unix socket to `path`, of any length as long as its last part is below 80 bytes."""
    _through_folder(sock.bind, path)


def unix_connect(sock: _socket.socket, path: str | bytes) -> None:
    """Connect a unix socket to `path`, of any length as long as its last part is below 80 bytes."""
    _through_folder(sock.connect, path)


def _through_folder(call: Callable[[bytes], Any], path: str | bytes) -> None:
    raw = os.fsencode(path)
    if len(raw) <= _SUN_PATH:
        call(raw)
        return
    folder, name = os.path.split(raw)
    with OwnedFd(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as parent:
        call(b"/proc/self/fd/%d/%s" % (parent.fd, name))
