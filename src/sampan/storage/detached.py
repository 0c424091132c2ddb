"""A snapshot's mounts as one fd, attached nowhere: for workers and comparisons, in no namespace.

The mount lives as long as the fd, so that nothing is left mounted when a process dies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from sampan.errors import InvalidArgument, Unimplemented
from sampan.linux import mounts as calls
from sampan.model.mounts import Mount

__all__ = ["open_mounts"]

_AT_FDCWD = -100


def open_mounts(mounts: Sequence[Mount]) -> int:
    """Return an O_PATH fd of the root that `mounts` make; the caller owns it.

    Raises:
      InvalidArgument: not exactly one mount, of the root.
      Unimplemented: a type other than bind and overlay.
      OSError: what the kernel answers.
    """
    if len(mounts) != 1 or mounts[0].target not in ("", "/"):
        raise InvalidArgument(f"cannot open {len(mounts)} mounts as one root")
    mount = mounts[0]
    if mount.type == "bind" or "rbind" in mount.options or "bind" in mount.options:
        fd = calls.open_tree(_AT_FDCWD, mount.source, calls.OPEN_TREE_CLONE)
    elif mount.type == "overlay":
        fd = _overlay(mount.options)
    else:
        raise Unimplemented(f"cannot open a mount of type {mount.type!r}")
    if "ro" in mount.options:
        try:
            calls.mount_setattr(fd, "", calls.AT_EMPTY_PATH, add=calls.MOUNT_ATTR_RDONLY)
        except BaseException:
            os.close(fd)
            raise
    return fd


def _overlay(options: Sequence[str]) -> int:
    """Mount an overlay option by option, which has neither a page's limit nor one on layers."""
    fs = calls.fsopen("overlay")
    try:
        calls.fsconfig(fs, calls.FSCONFIG_SET_STRING, "source", "overlay")
        for option in options:
            key, equals, value = option.partition("=")
            if key in ("uidmap", "gidmap", "ro", "rw"):
                continue
            if key == "lowerdir":
                for one in value.split(":"):
                    calls.fsconfig(fs, calls.FSCONFIG_SET_STRING, "lowerdir+", one)
            elif equals:
                calls.fsconfig(fs, calls.FSCONFIG_SET_STRING, key, value)
            else:
                calls.fsconfig(fs, calls.FSCONFIG_SET_FLAG, key)
        calls.fsconfig(fs, calls.FSCONFIG_CMD_CREATE)
        return calls.fsmount(fs)
    finally:
        os.close(fs)
