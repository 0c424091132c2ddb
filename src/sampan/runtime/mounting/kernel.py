"""Mounts and loop devices at places of ours. Blocking: call it in a thread."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.errors import FailedPrecondition, Unknown
from sampan.linux import loop
from sampan.linux import mounts as linux
from sampan.model.mounts import Mount

__all__ = ["mount_at", "unmount_at"]

# Source: mount(8), the options that are flags of mount(2).
_SETS: Final = {
    "ro": linux.MS_RDONLY, "nosuid": linux.MS_NOSUID, "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC, "noatime": linux.MS_NOATIME, "nodiratime": linux.MS_NODIRATIME,
    "relatime": linux.MS_RELATIME, "strictatime": linux.MS_STRICTATIME, "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC, "sync": linux.MS_SYNCHRONOUS,
    "dirsync": linux.MS_DIRSYNC, "lazytime": linux.MS_LAZYTIME,
}  # fmt: skip
_CLEARS: Final = {
    "rw": linux.MS_RDONLY, "suid": linux.MS_NOSUID, "dev": linux.MS_NODEV,
    "exec": linux.MS_NOEXEC, "defaults": 0, "loop": 0,
}  # fmt: skip
_BINDING: Final = linux.MS_BIND | linux.MS_REC


def mount_at(mount: Mount, place: Path) -> None:
    """Mount at `place`, which is made: a folder, or for `loop` a link to the device.

    Raises:
      Unknown: the kernel refuses; names source, type and options.
    """
    if mount.type == "loop":
        try:
            device = loop.attach(mount.source, read_only="ro" in mount.options)
        except OSError as err:
            raise Unknown(f"loop device for {mount.source}: {err.strerror}") from err
        try:
            place.symlink_to(device)
        except BaseException:
            loop.release(device)
            raise
        return
    flags, data = 0, []
    for option in mount.options:
        if option in _SETS:
            flags |= _SETS[option]
        elif option in _CLEARS:
            flags &= ~_CLEARS[option]
        else:
            data.append(option)
    place.mkdir(mode=0o700)
    kind = None if flags & linux.MS_BIND else mount.type
    try:
        linux.mount(mount.source, str(place), kind, flags, ",".join(data) or None)
        if flags & linux.MS_BIND and flags & ~_BINDING:
            remount = flags & ~linux.MS_REC | linux.MS_REMOUNT
            linux.mount(None, str(place), None, remount, None)
    except OSError as err:
        with suppress(OSError):
            linux.umount2(str(place), linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
        place.rmdir()
        raise Unknown(
            f"mount {mount.source}: type {mount.type!r}, options {','.join(mount.options)}: "
            f"{err.strerror}"
        ) from err


def unmount_at(place: Path) -> None:
    """Undo `mount_at`; what is not there is fine.

    Raises:
      FailedPrecondition: it is in use.
    """
    try:
        device = os.readlink(place)
    except FileNotFoundError:
        return
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
    else:
        loop.release(device)
        place.unlink()
        return
    try:
        linux.umount2(str(place), linux.UMOUNT_NOFOLLOW)
    except OSError as err:
        if err.errno == errno.EBUSY:
            raise FailedPrecondition(f"{place} is in use: {err.strerror}") from err
        if err.errno != errno.EINVAL:  # not mounted
            raise
    place.rmdir()
