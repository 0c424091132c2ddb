"""The whole config.json of a container."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.sandboxes.files import hostname_of
from sampan.cri.spec import capabilities, cdi, devices, mounts, process, seccomp
from sampan.cri.spec.apparmor import apparmor_of
from sampan.cri.spec.oom import oom_score
from sampan.cri.spec.resources import resources_of
from sampan.cri.spec.users import user_of
from sampan.cri.store.records import Pod
from sampan.engine.cri import RuntimeConfig, RuntimeHandler
from sampan.errors import InvalidArgument
from sampan.model.image import ContainerConfig
from sampan.model.runtime.defaults import MASKED_PATHS, OCI_VERSION, READONLY_PATHS
from sampan.model.runtime.linux import IDMapping, Linux, Namespace
from sampan.model.runtime.process import Process, User
from sampan.model.runtime.spec import Mount, Root, Spec

__all__ = ["Parts", "build", "dumps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a container is built from, beside its request; gathered by `containers.create`."""

    pod: Pod
    image: ContainerConfig
    settings: RuntimeConfig
    handler: RuntimeHandler
    root_fd: int
    """Borrowed; the container's root, to look users up in."""
    folder: Path
    """The pod's."""
    namespaces: tuple[Namespace, ...]
    mappings: tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]
    cgroups_path: str
    annotations: dict[str, str]
    image_mounts: dict[int, str]
    volumes: tuple[Mount, ...]
    """Of volumes that the image defines."""


def build(config: pb.ContainerConfig, parts: Parts) -> Spec:
    """Return the config.json of a container.

    Raises:
      InvalidArgument: the request contradicts itself, or the image cannot serve it.
      FailedPrecondition: something that it names on this node cannot be had.
    """
    security = config.linux.security_context
    settings, handler, pod = parts.settings, parts.handler, parts.pod
    names = capabilities.names_of(security)
    all_host = security.privileged and not handler.privileged_without_host_devices
    nodes, rules = devices.devices_of(
        config,
        all_host=all_host,
        all_allowed=all_host
        or (security.privileged and handler.privileged_without_host_devices_all_devices_allowed),
        owned=settings.device_ownership_from_security_context,
    )
    user = user_of(security, parts.image.user, parts.root_fd)
    resources = config.linux.resources
    masked, readonly = _paths(config, settings)
    spec = Spec(
        oci_version=OCI_VERSION,
        process=Process(
            terminal=config.tty,
            user=user,
            args=process.arguments_of(config, parts.image),
            env=process.environment_of(config, parts.image, hostname_of(pod.config)),
            cwd=process.folder_of(config, parts.image),
            capabilities=capabilities.capabilities_of(security),
            no_new_privileges=security.no_new_privs,
            apparmor_profile=apparmor_of(security, disabled=settings.disable_apparmor),
            oom_score_adj=oom_score(
                resources.oom_score_adj, restricted=settings.restrict_oom_score_adj
            ),
        ),
        root=Root(path="rootfs", readonly=security.readonly_rootfs),
        mounts=_mounts(config, parts),
        annotations=parts.annotations,
        linux=Linux(
            uid_mappings=parts.mappings[0],
            gid_mappings=parts.mappings[1],
            cgroups_path=parts.cgroups_path,
            resources=resources_of(
                resources, hugepages=not settings.disable_hugetlb_controller, rules=rules
            ),
            namespaces=parts.namespaces,
            devices=nodes,
            seccomp=seccomp.seccomp_of(security, names, settings.unset_seccomp_profile),
            rootfs_propagation=mounts.root_propagation(config.mounts),
            masked_paths=masked,
            readonly_paths=readonly,
        ),
    )
    wanted = cdi.names_in([one.name for one in config.CDI_devices], config.annotations)
    if wanted and not settings.enable_cdi:
        raise InvalidArgument(f"CDI devices {', '.join(wanted)}: enable_cdi is false")
    return cdi.injected(spec, wanted, settings.cdi_spec_dirs)


def _paths(
    config: pb.ContainerConfig, settings: RuntimeConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the masked and the read-only paths.

    Kubelet always says which; an empty list of its is `procMount: Unmasked`.
    """
    security = config.linux.security_context
    if security.privileged:
        return (), ()
    if settings.disable_proc_mount or not config.linux.HasField("security_context"):
        return MASKED_PATHS, READONLY_PATHS
    return tuple(security.masked_paths), tuple(security.readonly_paths)


def _mounts(config: pb.ContainerConfig, parts: Parts) -> tuple[Mount, ...]:
    security, pod = config.linux.security_context, parts.pod
    mounts.check(config.mounts)
    wanted = mounts.requested(config.mounts, parts.image_mounts)
    taken = frozenset(one.destination for one in wanted)
    host_network = not any(one.type == "network" for one in parts.namespaces)
    whole = mounts.system(
        privileged=security.privileged,
        cgroup_writable=parts.handler.cgroup_writable,
        bind_sys=bool(parts.mappings[0]) and host_network,
        taken=taken,
    )
    whole += mounts.pod_mounts(
        parts.folder,
        host_ipc=not any(one.type == "ipc" for one in parts.namespaces)
        or pod.namespaces.ipc == pb.NODE,
        readonly=security.readonly_rootfs,
        host_network=pod.host_network,
        taken=taken,
    )
    whole += [one for one in parts.volumes if one.destination not in taken]
    return mounts.sorted_mounts([*whole, *wanted])


def dumps(spec: Spec) -> bytes:
    """Return the document as it is kept and given to the runtime."""
    return json.dumps(spec.to_json()).encode()


def user_in(spec: Spec) -> tuple[int, int, tuple[int, ...]]:
    """Return who the first process is, as ContainerStatus tells it."""
    user = spec.process.user if spec.process else User()
    return user.uid, user.gid, user.additional_gids


def exec_process(spec: bytes, command: tuple[str, ...], *, tty: bool) -> bytes:
    """Return `process` for another process in a container: the same rights, another command."""
    values = json.loads(spec)["process"]
    values["args"] = list(command)
    values["terminal"] = tty
    if tty and not any(one.startswith("TERM=") for one in values.get("env", ())):
        values["env"] = [*values.get("env", ()), "TERM=xterm"]
    return json.dumps(values).encode()
