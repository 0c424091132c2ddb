"""What the zygote runs to make a network namespace that a user namespace owns.

A process with threads cannot enter a user namespace; this child has one thread.
"""

from __future__ import annotations

import os

from sampan.linux.namespaces import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare

__all__ = ["hold"]


def hold(payload: bytes, fds: list[int]) -> int:
    """Enter the user namespace `fds[0]`, unshare, say so on `fds[1]`, wait for the end of `fds[2]`.

    The other end of `fds[2]` belongs to the daemon: when that dies, so does this.
    """
    userns, ready, release = fds
    setns(userns, CLONE_NEWUSER)
    unshare(CLONE_NEWNET)
    os.write(ready, b"+")
    os.close(ready)
    os.read(release, 1)
    return 0
