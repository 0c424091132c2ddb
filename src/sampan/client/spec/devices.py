"""Devices of the host inside the container, and the rules of the devices cgroup."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from sampan.errors import InvalidArgument
from sampan.model.runtime.linux import Device
from sampan.model.runtime.resources import DeviceRule

__all__ = ["all_of_host", "asked", "rule"]

_RULE: Final = re.compile(r"([abc]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})", re.ASCII)
_SKIPPED: Final = frozenset(("pts", "shm", "fd", "mqueue", "console", ".lxc", ".udev", "hugepages"))
"""Of /dev: what a container has of its own."""


def asked(text: str) -> list[tuple[Device, DeviceRule]]:
    """Return the devices that `HOST[:CONTAINER[:rwm]]` names: one, or all below a folder.

    Raises:
      InvalidArgument: it is malformed, or there is no such device.
    """
    host, _, rest = text.partition(":")
    inside, _, access = rest.partition(":")
    if rest and not access and not inside.startswith("/"):
        inside, access = "", inside
    inside, access = inside or host, access or "rwm"
    if not host.startswith("/") or not inside.startswith("/") or not set(access) <= set("rwm"):
        raise InvalidArgument(f"device {text!r} is not HOST[:CONTAINER[:rwm]] with absolute paths")
    try:
        found = list(_below(host, inside)) if os.path.isdir(host) else [_one(host, inside)]
    except OSError as err:
        raise InvalidArgument(f"device {host}: {err.strerror}") from err
    return [(device, _allow(device, access)) for device in found]


def all_of_host() -> list[Device]:
    """Return every device node below /dev but the terminals and what each container has itself."""
    return list(_below("/dev", "/dev"))


def rule(text: str) -> DeviceRule:
    """Return the rule that `c 1:3 rwm` writes.

    Raises:
      InvalidArgument: it is none.
    """
    match = _RULE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"device rule {text!r} is not TYPE MAJOR:MINOR ACCESS, as c 1:3 rwm")
    kind, major, minor, access = match.groups()
    return DeviceRule(
        allow=True,
        type=kind,
        major=None if major == "*" else int(major),
        minor=None if minor == "*" else int(minor),
        access=access,
    )


def _one(host: str, inside: str) -> Device:
    seen = os.stat(host)
    if stat.S_ISCHR(seen.st_mode):
        kind = "c"
    elif stat.S_ISBLK(seen.st_mode):
        kind = "b"
    else:
        raise InvalidArgument(f"device {host}: it is neither a character nor a block device")
    return Device(
        path=inside,
        type=kind,
        major=os.major(seen.st_rdev),
        minor=os.minor(seen.st_rdev),
        file_mode=stat.S_IMODE(seen.st_mode),
        uid=seen.st_uid,
        gid=seen.st_gid,
    )


def _below(folder: str, inside: str) -> Iterator[Device]:
    with os.scandir(folder) as entries:
        names = sorted((one for one in entries), key=lambda one: one.name)
    for entry in names:
        if entry.name in _SKIPPED:
            continue
        target = f"{inside}/{entry.name}"
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _below(entry.path, target)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            yield _one(entry.path, target)


def _allow(device: Device, access: str) -> DeviceRule:
    return DeviceRule(
        allow=True, type=device.type, major=device.major, minor=device.minor, access=access
    )
