"""How layers say that something is gone: in archives by name, in overlayfs by node and attribute.

    archive                     overlayfs
    a/.wh.b                     a/b, a character device 0:0
    a/.wh..wh..opq              a with the attribute (trusted|user).overlay.opaque = y

Source: image-spec layer.md#whiteouts; Linux Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os
import stat

__all__ = [
    "OPAQUE",
    "PREFIX",
    "RESERVED",
    "is_whiteout",
    "make_opaque",
    "make_whiteout",
    "opaque_attribute",
]

PREFIX = b".wh."
RESERVED = b".wh..wh."
OPAQUE = b".wh..wh..opq"


def opaque_attribute(userxattr: bool) -> bytes:
    """Return the attribute's name, in the class that a user namespace may write or not."""
    return b"user.overlay.opaque" if userxattr else b"trusted.overlay.opaque"


def make_whiteout(name: bytes, dirfd: int) -> None:
    """Make an overlay whiteout; unprivileged processes may, too (Linux 5.8)."""
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=dirfd)


def make_opaque(dirfd: int, *, userxattr: bool) -> None:
    """Hide whatever lower layers have in this folder; `dirfd` is not an O_PATH one."""
    os.setxattr(dirfd, opaque_attribute(userxattr), b"y")


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether lstat saw an overlay whiteout."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
