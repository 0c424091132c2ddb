"""Loop devices: a file as a block device. Source: loop(4).

    device = attach("/images/root.xfs", read_only=True)     # /dev/loop3, kept until `release`
    release(device)                                         # goes when nobody has it open any more

The kernel names a free device, and another process may take it first: `attach` then asks again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["attach", "backing_file", "release"]

_CONTROL: Final = "/dev/loop-control"
_CTL_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A
_SET_STATUS64: Final = 0x4C04
_GET_STATUS64: Final = 0x4C05

_READ_ONLY: Final = 1
_AUTOCLEAR: Final = 4

_INFO: Final = struct.Struct("=QQQQQIIII64s64s32sQQ")
"""struct loop_info64."""
_CONFIG: Final = struct.Struct(f"=II{_INFO.size}s64x")
"""struct loop_config."""
_FLAGS_AT: Final = 8
_NAME_AT: Final = 9
_TRIES: Final = 64


def attach(path: str, *, read_only: bool = False) -> str:
    """Return the path of a new loop device over the file `path`.

    It stays when nobody has it open, until `release`. Needs Linux 5.8.

    Raises:
      OSError: the file cannot be opened; ENXIO or ENOENT, no loop device can be had.
    """
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    backing = os.open(path, flags)
    try:
        name = os.fsencode(path)[-63:]
        info = _INFO.pack(
            *(0, 0, 0, 0, 0, 0, 0, 0, _READ_ONLY if read_only else 0), name, b"", b"", 0, 0
        )
        config = _CONFIG.pack(backing, 0, info)
        for _ in range(_TRIES):
            device = f"/dev/loop{_free()}"
            fd = os.open(device, flags)
            try:
                fcntl.ioctl(fd, _CONFIGURE, config)
            except OSError as err:
                if err.errno != errno.EBUSY:
                    raise OSError(err.errno, f"loop: {err.strerror}", path) from err
                continue
            finally:
                os.close(fd)
            return device
        raise OSError(errno.EBUSY, "loop: every free device is taken by others", path)
    finally:
        os.close(backing)


def release(device: str) -> None:
    """Let a loop device end as soon as nobody has it open; one that has ended already is fine."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        info = bytearray(_INFO.size)
        fcntl.ioctl(fd, _GET_STATUS64, info)
        fields = list(_INFO.unpack(info))
        fields[_FLAGS_AT] |= _AUTOCLEAR
        fcntl.ioctl(fd, _SET_STATUS64, _INFO.pack(*fields))
    except OSError as err:
        if err.errno != errno.ENXIO:
            raise
    finally:
        os.close(fd)


def backing_file(device: str) -> str:
    """Return the path that a device was attached with, its last 63 bytes; empty for none."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        info = bytearray(_INFO.size)
        fcntl.ioctl(fd, _GET_STATUS64, info)
    except OSError as err:
        if err.errno != errno.ENXIO:
            raise
        return ""
    finally:
        os.close(fd)
    return os.fsdecode(_INFO.unpack(info)[_NAME_AT].rstrip(b"\0"))


def _free() -> int:
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, _CTL_GET_FREE)
    finally:
        os.close(control)
