"""Messages for plugins, from config.json and from the CRI's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.api.cri.v1 import api_pb2 as cri
from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri.apply import CPU_NAMES, HOOK_NAMES, MEMORY_NAMES

__all__ = ["container_message", "cri_resources", "kubelets_resources", "resources_message"]


_PROFILES = {
    cri.SecurityProfile.RuntimeDefault: pb.SecurityProfile.RUNTIME_DEFAULT,
    cri.SecurityProfile.Unconfined: pb.SecurityProfile.UNCONFINED,
    cri.SecurityProfile.Localhost: pb.SecurityProfile.LOCALHOST,
}


def container_message(
    spec: Mapping[str, Any],
    *,
    id: str,
    pod_id: str,
    name: str,
    state: pb.ContainerState = pb.CONTAINER_UNKNOWN,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    pid: int = 0,
    created_at_ns: int = 0,
    started_at_ns: int = 0,
    finished_at_ns: int = 0,
    exit_code: int = 0,
    image: str = "",
    seccomp: cri.SecurityProfile | None = None,
) -> pb.Container:
    """Return what plugins see of a container.

    Args:
      spec: Its config.json, as parsed JSON.
      id: Of the container.
      pod_id: Of its pod.
      name: Its name within the pod.
      state: Where it stands in its life.
      labels: Kubelet's.
      annotations: Kubelet's; None takes those of config.json.
      pid: Of its first process; 0 for none.
      created_at_ns: And the next two: Unix time, 0 for not yet.
      started_at_ns: See above.
      finished_at_ns: See above.
      exit_code: Of one that has ended.
      image: As kubelet names it.
      seccomp: Which profile kubelet asked for.
    """
    process = spec.get("process") or {}
    made = pb.Container(
        id=id,
        pod_sandbox_id=pod_id,
        name=name,
        state=state,
        labels=labels or {},
        annotations=annotations if annotations is not None else spec.get("annotations") or {},
        args=process.get("args") or (),
        env=process.get("env") or (),
        pid=pid,
        created_at=created_at_ns,
        started_at=started_at_ns,
        finished_at=finished_at_ns,
        exit_code=exit_code,
        image=pb.Image(name=image) if image else None,
    )
    for mount in spec.get("mounts") or ():
        made.mounts.add(
            destination=mount.get("destination", ""),
            type=mount.get("type", ""),
            source=mount.get("source", ""),
            options=mount.get("options") or (),
        )
    for limit in process.get("rlimits") or ():
        made.rlimits.add(type=limit["type"], hard=limit["hard"], soft=limit["soft"])
    if user := process.get("user"):
        made.user.uid = user.get("uid", 0)
        made.user.gid = user.get("gid", 0)
        made.user.additional_gids.extend(user.get("additionalGids") or ())
    _hooks(made.hooks, spec.get("hooks") or {})
    _linux(made.linux, spec.get("linux") or {}, process)
    if seccomp is not None:
        made.linux.seccomp_profile.profile_type = _PROFILES[seccomp.profile_type]
        made.linux.seccomp_profile.localhost_ref = seccomp.localhost_ref
    return made


def _hooks(made: pb.Hooks, hooks: Mapping[str, Any]) -> None:
    for name, theirs in HOOK_NAMES.items():
        for hook in hooks.get(theirs) or ():
            one = getattr(made, name).add(
                path=hook.get("path", ""), args=hook.get("args") or (), env=hook.get("env") or ()
            )
            if hook.get("timeout") is not None:
                one.timeout.value = hook["timeout"]


def _linux(made: pb.LinuxContainer, linux: Mapping[str, Any], process: Mapping[str, Any]) -> None:
    for namespace in linux.get("namespaces") or ():
        made.namespaces.add(type=namespace["type"], path=namespace.get("path", ""))
    for device in linux.get("devices") or ():
        one = made.devices.add(
            path=device["path"],
            type=device.get("type", ""),
            major=device.get("major", 0),
            minor=device.get("minor", 0),
        )
        for key, name in (("fileMode", "file_mode"), ("uid", "uid"), ("gid", "gid")):
            if device.get(key) is not None:
                getattr(one, name).value = device[key]
    made.resources.CopyFrom(resources_message(linux.get("resources") or {}))
    made.cgroups_path = linux.get("cgroupsPath", "")
    if process.get("oomScoreAdj") is not None:
        made.oom_score_adj.value = process["oomScoreAdj"]
    for key, value in (linux.get("sysctl") or {}).items():
        made.sysctl[key] = value
    for key, device in (linux.get("netDevices") or {}).items():
        made.net_devices[key].name = (device or {}).get("name", "")
    if (seccomp := linux.get("seccomp")) is not None:
        _seccomp(made.seccomp_policy, seccomp)
    if (priority := process.get("ioPriority")) is not None:
        kind = pb.IOPrioClass.Value(priority["class"])
        made.io_priority.CopyFrom(
            pb.LinuxIOPriority(**{"class": kind, "priority": priority.get("priority", 0)})
        )


def _seccomp(made: pb.LinuxSeccomp, seccomp: Mapping[str, Any]) -> None:
    made.default_action = seccomp.get("defaultAction", "")
    if seccomp.get("defaultErrnoRet") is not None:
        made.default_errno.value = seccomp["defaultErrnoRet"]
    made.architectures.extend(seccomp.get("architectures") or ())
    made.flags.extend(seccomp.get("flags") or ())
    made.listener_path = seccomp.get("listenerPath", "")
    made.listener_metadata = seccomp.get("listenerMetadata", "")
    for rule in seccomp.get("syscalls") or ():
        one = made.syscalls.add(names=rule.get("names") or (), action=rule.get("action", ""))
        if rule.get("errnoRet") is not None:
            one.errno_ret.value = rule["errnoRet"]
        for argument in rule.get("args") or ():
            one.args.add(
                index=argument["index"],
                value=argument["value"],
                value_two=argument.get("valueTwo", 0),
                op=argument["op"],
            )


def resources_message(resources: Mapping[str, Any]) -> pb.LinuxResources:
    """Return `linux.resources` of config.json as a message."""
    made = pb.LinuxResources()
    for group, names in (("memory", MEMORY_NAMES), ("cpu", CPU_NAMES)):
        source = resources.get(group) or {}
        for name, theirs in names.items():
            if source.get(theirs) is not None:
                getattr(getattr(made, group), name).value = source[theirs]
    cpu = resources.get("cpu") or {}
    made.cpu.cpus, made.cpu.mems = cpu.get("cpus", ""), cpu.get("mems", "")
    if (limit := (resources.get("pids") or {}).get("limit")) is not None:
        made.pids.limit = limit
    for size in resources.get("hugepageLimits") or ():
        made.hugepage_limits.add(page_size=size["pageSize"], limit=size["limit"])
    for key, value in (resources.get("unified") or {}).items():
        made.unified[key] = value
    for rule in resources.get("devices") or ():
        one = made.devices.add(
            allow=rule.get("allow", False),
            type=rule.get("type", ""),
            access=rule.get("access", ""),
        )
        for name in ("major", "minor"):
            if rule.get(name) is not None:
                getattr(one, name).value = rule[name]
    return made


def cri_resources(resources: cri.LinuxContainerResources) -> pb.LinuxResources:
    """Return the CRI's resources as plugins know them; there, zero means that nothing was said."""
    made = pb.LinuxResources()
    for name, value in (
        ("period", resources.cpu_period),
        ("quota", resources.cpu_quota),
        ("shares", resources.cpu_shares),
    ):
        if value:
            getattr(made.cpu, name).value = value
    made.cpu.cpus, made.cpu.mems = resources.cpuset_cpus, resources.cpuset_mems
    if resources.memory_limit_in_bytes:
        made.memory.limit.value = resources.memory_limit_in_bytes
    if resources.memory_swap_limit_in_bytes:
        made.memory.swap.value = resources.memory_swap_limit_in_bytes
    for size in resources.hugepage_limits:
        made.hugepage_limits.add(page_size=size.page_size, limit=size.limit)
    for key, text in resources.unified.items():
        made.unified[key] = text
    return made


def kubelets_resources(resources: pb.LinuxResources) -> cri.LinuxContainerResources:
    """Return resources as kubelet knows them; what was not said is zero there."""
    cpu, memory = resources.cpu, resources.memory
    return cri.LinuxContainerResources(
        cpu_period=cpu.period.value,
        cpu_quota=cpu.quota.value,
        cpu_shares=cpu.shares.value,
        cpuset_cpus=cpu.cpus,
        cpuset_mems=cpu.mems,
        memory_limit_in_bytes=memory.limit.value,
        memory_swap_limit_in_bytes=memory.swap.value,
        hugepage_limits=[
            cri.HugepageLimit(page_size=one.page_size, limit=one.limit)
            for one in resources.hugepage_limits
        ],
        unified=resources.unified,
    )
