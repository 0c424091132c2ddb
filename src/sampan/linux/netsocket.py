"""Sockets that belong to another network namespace, for a process with many threads.

A socket stays in the network namespace of the thread that made it. setns(2) with CLONE_NEWNET moves
only the calling thread, so a thread is started for each socket, enters, makes it, and ends: nothing
else ever runs in a thread whose namespace is not ours.
"""

from __future__ import annotations

import _socket
import _thread
import os
import socket

from sampan.linux.namespaces import CLONE_NEWNET, setns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["socket_in"]


def socket_in(
    netns: str | Path | int | None, family: int, kind: int, protocol: int = 0
) -> socket.socket:
    """Return a socket, which the caller owns, of a network namespace.

    Args:
      netns: A path, or an fd, which is borrowed; None is that of the caller.
      family: AF_INET, AF_NETLINK, ...
      kind: SOCK_STREAM, SOCK_RAW, ...
      protocol: Of the family.

    Raises:
      OSError: ENOENT, there is no such path; EINVAL, it is no network namespace; EPERM, missing
        CAP_SYS_ADMIN in it; EAFNOSUPPORT, the kernel lacks the family.

    Source: setns(2), network_namespaces(7).
    """
    if netns is None:
        return socket.socket(family, kind, protocol)
    fd = netns if isinstance(netns, int) else os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    made: list[_socket.socket] = []
    errors: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def inside() -> None:
        try:
            setns(fd, CLONE_NEWNET)
            made.append(_socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol))
        except BaseException as err:  # noqa: BLE001 - the caller raises it
            errors.append(err)
        finally:
            done.release()

    try:
        _thread.start_new_thread(inside, ())
        # Two system calls: microseconds, so this may be called from an event loop.
        done.acquire()
    finally:
        if fd != netns:
            os.close(fd)
    if errors:
        raise errors[0]
    return socket.socket(fileno=made[0].detach())
