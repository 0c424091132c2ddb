"""The whole config.json of a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sampan.client.spec import capabilities, devices
from sampan.client.spec.mounts import mounts_of
from sampan.client.spec.namespaces import namespaces_of
from sampan.client.spec.process import process_of
from sampan.client.spec.request import Request
from sampan.client.spec.resources import resources_of
from sampan.errors import InvalidArgument
from sampan.model.runtime.defaults import MASKED_PATHS, OCI_VERSION, READONLY_PATHS
from sampan.model.runtime.linux import Device, Linux
from sampan.model.runtime.resources import DeviceRule
from sampan.model.runtime.spec import Root, Spec

if TYPE_CHECKING:
    from sampan.model.image import ContainerConfig
    from sampan.model.runtime.seccomp import Seccomp

__all__ = ["build"]

_SYSCTLS: Final = {
    "kernel.msg": "ipc", "kernel.sem": "ipc", "kernel.shm": "ipc", "fs.mqueue.": "ipc",
    "net.": "network", "kernel.domainname": "uts", "kernel.hostname": "uts",
}  # fmt: skip
"""Beginnings of the names that a namespace of ours has for itself, and which namespace."""


def build(
    request: Request, image: ContainerConfig | None, *, id: str, namespace: str, root_fd: int = -1
) -> Spec:
    """Return the config.json that runs `request` upon an image with config `image`.

    Args:
      request: Policy.
      image: Content; None for a root without one.
      id: Of the container; its cgroup bears it.
      namespace: Likewise.
      root_fd: Borrowed; the root, to look users up in; -1 when numbers must do.

    Raises:
      InvalidArgument: no command, an unknown user, capability, network or device, a bad mount, or
        limits that contradict each other.
    """
    if request.privileged:
        names = capabilities.known()
    else:
        names = capabilities.chosen(request.cap_add, request.cap_drop)
    found, rules = _devices(request)
    shown = request.privileged or not request.mask_paths
    return Spec(
        oci_version=OCI_VERSION,
        process=process_of(request, image, names, root_fd),
        root=Root(path="rootfs", readonly=request.read_only),
        hostname=_hostname(request, id),
        domainname=request.domainname,
        mounts=mounts_of(request),
        annotations=dict(request.annotations) or None,
        linux=Linux(
            cgroups_path=f"{_parent(request.cgroup_parent)}/{namespace}/{id}",
            resources=resources_of(request.limits, rules),
            namespaces=namespaces_of(request),
            devices=found,
            sysctl=_sysctls(request),
            masked_paths=() if shown else MASKED_PATHS,
            readonly_paths=() if shown else READONLY_PATHS,
            seccomp=_seccomp(request, names),
        ),
    )


def _parent(path: str) -> str:
    if not path:
        return "/sampan"
    if ".." in path.split("/"):
        raise InvalidArgument(f"cgroup parent {path!r} must not lead upwards")
    return f"/{path.strip('/')}"


def _hostname(request: Request, id: str) -> str:
    if request.namespaces.get("uts"):
        if request.hostname:
            raise InvalidArgument("a hostname needs a uts namespace of the container's own")
        return ""
    return request.hostname or (os.uname().nodename if request.network == "host" else id[:12])


def _devices(request: Request) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    if request.privileged:
        return tuple(devices.all_of_host()), (DeviceRule(allow=True, access="rwm"),)
    found, rules = [], [DeviceRule(allow=False, access="rwm")]
    for text in request.devices:
        for device, rule in devices.asked(text):
            found.append(device)
            rules.append(rule)
    rules += [devices.rule(text) for text in request.device_rules]
    return tuple(found), tuple(rules)


def _sysctls(request: Request) -> dict[str, str] | None:
    for name in request.sysctls:
        kind = next((kind for start, kind in _SYSCTLS.items() if name.startswith(start)), "")
        if not kind:
            raise InvalidArgument(f"sysctl {name}: no namespace has it, so it would be the host's")
        shared = request.network if kind == "network" else request.namespaces.get(kind, "")
        if shared == "host":
            raise InvalidArgument(f"sysctl {name}: the container shares the host's {kind}")
    return dict(request.sysctls) or None


def _seccomp(request: Request, names: tuple[str, ...]) -> Seccomp | None:
    if request.seccomp == "unconfined" or (request.privileged and request.seccomp == "default"):
        return None
    if request.seccomp == "default":
        from sampan.model.runtime.defaults_seccomp import default_seccomp

        return default_seccomp(names)
    from sampan.client.spec.seccomp import profile_of

    return profile_of(request.seccomp, names)
