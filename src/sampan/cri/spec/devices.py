"""Devices: those that are asked for, and for privileged containers all of the host's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument
from sampan.model.runtime.linux import Device
from sampan.model.runtime.resources import DeviceRule

__all__ = ["devices_of"]

_SKIPPED = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev")


def devices_of(
    config: pb.ContainerConfig, *, all_host: bool, all_allowed: bool, owned: bool = False
) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """Return device nodes, and what the devices cgroup shall allow.

    Args:
      config: The request's.
      all_host: Make every device of the host, too.
      all_allowed: Let every device be used, also those made later.
      owned: Those that are asked for belong to the container's user and group.

    Raises:
      InvalidArgument: there is no such device, or permissions are not of `rwm`.
    """
    nodes: dict[str, Device] = {}
    rules = [DeviceRule(allow=all_allowed, access="rwm")]
    if all_host:
        nodes.update((one.path, one) for one in _below("/dev", "/dev"))
    for wanted in config.devices:
        access = wanted.permissions or "rwm"
        if set(access) - set("rwm"):
            raise InvalidArgument(f"device {wanted.host_path}: permissions {access!r} not of rwm")
        target = wanted.container_path or wanted.host_path
        found = list(_of(os.path.realpath(wanted.host_path), target))
        if not found:
            raise InvalidArgument(f"device {wanted.host_path} does not exist on this node")
        for device in found:
            one = _given_to(config.linux.security_context, device) if owned else device
            nodes[one.path] = one
            rules.append(
                DeviceRule(
                    allow=True, type=one.type, major=one.major, minor=one.minor, access=access
                )
            )
    return tuple(nodes.values()), tuple(rules)


def _given_to(security: pb.LinuxContainerSecurityContext, device: Device) -> Device:
    """Return the device as the container's own, where the request names a user by number."""
    uid, gid = security.run_as_user.value, security.run_as_group.value
    return device.replace(uid=uid or device.uid, gid=gid or device.gid)


def _of(path: str, target: str) -> Iterator[Device]:
    if os.path.isdir(path):
        yield from _below(path, target)
        return
    node = _node(path, target)
    if node is not None:
        yield node


def _below(folder: str, target: str) -> Iterator[Device]:
    for name in sorted(os.listdir(folder)):
        path, inside = os.path.join(folder, name), os.path.join(target, name)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            if name not in _SKIPPED:
                yield from _below(path, inside)
        elif path != "/dev/console":
            node = _node(path, inside)
            if node is not None:
                yield node


def _node(path: str, target: str) -> Device | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    return Device(
        path=target,
        type=kind,
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        file_mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
    )
