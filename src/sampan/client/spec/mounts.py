"""`mounts`: the defaults, and what was asked for beside them or in their place."""

from __future__ import annotations

import os

from sampan.client.spec.request import Request, Volume
from sampan.errors import InvalidArgument
from sampan.model.runtime.defaults import default_mounts
from sampan.model.runtime.spec import Mount

__all__ = ["INIT_PATH", "mounts_of"]

INIT_PATH = "/dev/init"
"""Where the small init lies: /dev is always ours, so no image has a say in what is there."""


def mounts_of(request: Request) -> tuple[Mount, ...]:
    """Return all mounts but the root, in order.

    Raises:
      InvalidArgument: a target is no absolute path below `/`, or two things want to be there.
    """
    volumes = [_volume(one) for one in request.volumes]
    taken = [mount.destination for mount in volumes]
    for target in taken:
        if taken.count(target) > 1:
            raise InvalidArgument(f"mount target {target!r} is given twice")
    found = [*default_mounts(cgroup_writable=request.privileged), _run()]
    found = [_adapted(mount, request) for mount in found if mount.destination not in taken]
    if request.init:
        found.append(
            Mount(
                destination=INIT_PATH,
                type="bind",
                source=request.init,
                options=("bind", "ro", "nosuid", "nodev"),
            )
        )
    return (*found, *volumes)


def _adapted(mount: Mount, request: Request) -> Mount:
    options = mount.options
    if mount.destination == "/dev/shm" and request.shm_bytes:  # noqa: S108
        options = (*(o for o in options if not o.startswith("size=")), f"size={request.shm_bytes}")
    if mount.destination == "/sys" and request.privileged:
        options = tuple("rw" if option == "ro" else option for option in options)
    if mount.destination == "/dev/mqueue" and request.namespaces.get("ipc") == "host":
        return mount.replace(type="bind", source="/dev/mqueue", options=("rbind", "nosuid"))
    if mount.destination == "/dev/shm" and request.namespaces.get("ipc") == "host":  # noqa: S108
        return mount.replace(type="bind", source="/dev/shm", options=("rbind", "nosuid"))  # noqa: S108
    return mount.replace(options=options)


def _run() -> Mount:
    return Mount(
        destination="/run", type="tmpfs", source="tmpfs", options=("nosuid", "nodev", "mode=755")
    )


def _volume(one: Volume) -> Mount:
    target = os.path.normpath(one.target)
    if not one.target.startswith("/") or not target.strip("/"):
        raise InvalidArgument(f"mount target {one.target!r} must be an absolute path below /")
    if one.type == "bind":
        propagation = ("shared", "slave", "private", "rshared", "rslave", "rprivate")
        options = list(one.options)
        if not any(option in propagation for option in options):
            options.insert(0, "rprivate")
        if not any(option in ("ro", "rw", "rro") for option in options):
            options.append("rw")
        if not any(option in ("bind", "rbind") for option in options):
            options.insert(0, "rbind")
        return Mount(destination=target, type="bind", source=one.source, options=tuple(options))
    options = ["nosuid", "nodev", "noexec"]
    for option in one.options:
        if option in ("suid", "dev", "exec"):
            options.remove(f"no{option}")
        options.append(option)
    if not any(option.startswith("mode=") for option in options):
        options.append("mode=1777")
    return Mount(destination=target, type="tmpfs", source="tmpfs", options=tuple(options))
