"""The whole config.json of a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sampan.client.spec.request import Request, Volume
from sampan.client.spec.users import resolve
from sampan.errors import InvalidArgument
from sampan.model.runtime.defaults import (
    DEFAULT_CAPABILITIES,
    DEFAULT_PATH,
    MASKED_PATHS,
    OCI_VERSION,
    READONLY_PATHS,
    capability_sets,
    default_mounts,
)
from sampan.model.runtime.linux import Linux, Namespace
from sampan.model.runtime.process import Process, User
from sampan.model.runtime.resources import CPU, DeviceRule, Memory, Pids, Resources
from sampan.model.runtime.spec import Mount, Root, Spec

if TYPE_CHECKING:
    from sampan.model.image import ContainerConfig

__all__ = ["build", "process_of"]

_PERIOD_USEC: Final = 100_000
_NAMESPACES: Final = ("pid", "ipc", "uts", "mount", "cgroup")


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
      InvalidArgument: no command, an unknown user, capability or network, or a bad mount.
    """
    from sampan.model.runtime.defaults_seccomp import default_seccomp

    names = () if request.privileged else _capabilities(request.cap_add, request.cap_drop)
    kinds = _NAMESPACES + (("network",) if request.network == "none" else ())
    if request.network not in ("none", "host"):
        raise InvalidArgument(f"network {request.network!r} is not there yet: use none or host")
    return Spec(
        oci_version=OCI_VERSION,
        process=process_of(request, image, names, root_fd),
        root=Root(path="rootfs", readonly=request.read_only),
        hostname=request.hostname
        or (id[:12] if request.network == "none" else os.uname().nodename),
        mounts=(*default_mounts(), _run(), *_volumes(request.volumes)),
        annotations=dict(request.annotations) or None,
        linux=Linux(
            cgroups_path=f"/sampan/{namespace}/{id}",
            resources=_resources(request),
            namespaces=tuple(Namespace(type=kind) for kind in kinds),
            masked_paths=MASKED_PATHS,
            readonly_paths=READONLY_PATHS,
            seccomp=default_seccomp(names) if request.seccomp else None,
        ),
    )


def process_of(
    request: Request,
    image: ContainerConfig | None,
    capabilities: tuple[str, ...],
    root_fd: int = -1,
) -> Process:
    """Return the process alone, as docker makes it from flags and image.

    An entrypoint that is given discards the image's command, too.
    """
    entrypoint, command = request.entrypoint, request.args
    if entrypoint is None:
        entrypoint = tuple((image and image.entrypoint) or ())
        if not command:
            command = tuple((image and image.cmd) or ())
    args = (*(part for part in entrypoint if part or len(entrypoint) > 1), *command)
    if not args:
        raise InvalidArgument("no command: the image has none, so name one after the image")
    user = request.user or (image.user if image else "")
    return Process(
        terminal=request.tty,
        user=resolve(user, root_fd) if user else User(),
        args=args,
        env=_environment(tuple((image and image.env) or ()), request),
        cwd=_cwd(request.cwd or (image.working_dir if image else "")),
        capabilities=capability_sets(capabilities),
    )


def _cwd(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidArgument(f"working folder {path!r} must be an absolute path")
    return os.path.normpath(path) if path else "/"


def _environment(image: tuple[str, ...], request: Request) -> tuple[str, ...]:
    values = {"PATH": DEFAULT_PATH}
    if request.tty:
        values["TERM"] = "xterm"
    if request.hostname:
        values["HOSTNAME"] = request.hostname
    for pair in (*image, *request.env):
        name, equals, value = pair.partition("=")
        if not name or "\0" in pair:
            raise InvalidArgument(f"environment variable {pair!r} is not NAME=VALUE")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    return tuple(f"{name}={value}" for name, value in values.items())


def _capabilities(add: tuple[str, ...], drop: tuple[str, ...]) -> tuple[str, ...]:
    from sampan.linux.capabilities import NAMES

    known = tuple(NAMES.values()) if isinstance(NAMES, dict) else tuple(NAMES)

    def named(text: str) -> tuple[str, ...]:
        name = text.upper()
        if name == "ALL":
            return known
        name = name if name.startswith("CAP_") else f"CAP_{name}"
        if name not in known:
            raise InvalidArgument(f"unknown capability {text!r}: see capabilities(7)")
        return (name,)

    added = {name for text in add for name in named(text)}
    dropped = {name for text in drop for name in named(text)}
    if "ALL" in {text.upper() for text in drop}:
        kept = added
    else:
        kept = (set(DEFAULT_CAPABILITIES) | added) - dropped
    return tuple(name for name in known if name in kept)


def _run() -> Mount:
    return Mount(
        destination="/run", type="tmpfs", source="tmpfs", options=("nosuid", "nodev", "mode=755")
    )


def _volumes(volumes: tuple[Volume, ...]) -> tuple[Mount, ...]:
    mounts = []
    for one in volumes:
        if not one.target.startswith("/") or not os.path.normpath(one.target).strip("/"):
            raise InvalidArgument(f"mount target {one.target!r} must be an absolute path below /")
        if one.type == "bind":
            options = ("rbind", "rprivate", *(one.options or ("rw",)))
            mounts.append(
                Mount(destination=one.target, type="bind", source=one.source, options=options)
            )
        else:
            options = ("nosuid", "nodev", "noexec", *one.options)
            if not any(option.startswith("mode=") for option in one.options):
                options = (*options, "mode=1777")
            mounts.append(
                Mount(destination=one.target, type="tmpfs", source="tmpfs", options=options)
            )
    return tuple(mounts)


def _resources(request: Request) -> Resources:
    cpu = None
    if request.cpus:
        cpu = CPU(period=_PERIOD_USEC, quota=round(request.cpus * _PERIOD_USEC))
    memory = Memory(limit=request.memory_bytes) if request.memory_bytes else None
    pids = Pids(limit=request.pids_limit) if request.pids_limit else None
    rules = (DeviceRule(allow=False, access="rwm"),)
    return Resources(devices=rules, memory=memory, cpu=cpu, pids=pids)
