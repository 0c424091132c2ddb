"""Adjustments applied to config.json, as parsed JSON: the last step before a container is made.

Devices that CDI injects are not among these: `adjust.CDI_devices` names them for the caller, who
knows the CDI specifications.

Source: containerd/nri pkg/runtime-tools/generate; runtime-spec v1.3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri.owners import removal
from sampan.errors import InvalidArgument

__all__ = ["CPU_NAMES", "HOOK_NAMES", "MEMORY_NAMES", "adjusted", "updated"]

Json = dict[str, Any]

HOOK_NAMES: Final = {
    "prestart": "prestart",
    "create_runtime": "createRuntime",
    "create_container": "createContainer",
    "start_container": "startContainer",
    "poststart": "poststart",
    "poststop": "poststop",
}
MEMORY_NAMES: Final = {
    "limit": "limit",
    "reservation": "reservation",
    "swap": "swap",
    "kernel": "kernel",
    "kernel_tcp": "kernelTCP",
    "swappiness": "swappiness",
    "disable_oom_killer": "disableOOMKiller",
    "use_hierarchy": "useHierarchy",
}
CPU_NAMES: Final = {
    "shares": "shares",
    "quota": "quota",
    "period": "period",
    "realtime_runtime": "realtimeRuntime",
    "realtime_period": "realtimePeriod",
}


def adjusted(spec: Mapping[str, Any], adjust: pb.ContainerAdjustment) -> Json:
    """Return a copy of `spec` with what plugins want; the original stays as it is.

    Raises:
      InvalidArgument: it cannot be expressed in config.json, or not on this host.
    """
    made: Json = copy.deepcopy(dict(spec))
    process: Json = made.setdefault("process", {})
    linux: Json = made.setdefault("linux", {})
    _map(made, "annotations", adjust.annotations)
    _env(process, adjust.env)
    if adjust.args:
        process["args"] = list(adjust.args)
    _hooks(made, adjust.hooks)
    _mounts(made, linux, adjust.mounts)
    for limit in adjust.rlimits:
        value = {"type": limit.type, "hard": limit.hard, "soft": limit.soft}
        _put(process, "rlimits", "type", limit.type, value)
    if adjust.HasField("linux"):
        _linux(linux, process, adjust.linux)
    for name in ("linux", "process"):
        if not made[name]:
            del made[name]
    return made


def _map(parent: Json, name: str, changes: Mapping[str, str]) -> None:
    if not changes:
        return
    values: Json = dict(parent.get(name) or {})
    for key in changes:
        bare, gone = removal(key)
        if gone:
            values.pop(bare, None)
    values.update({key: text for key, text in changes.items() if not removal(key)[1]})
    parent[name] = values


def _env(process: Json, changes: Iterable[pb.KeyValue]) -> None:
    wanted: dict[str, str | None] = {}
    for one in changes:
        key, gone = removal(one.key)
        wanted[key] = None if gone else one.value
    if not wanted:
        return
    env: list[str] = []
    for entry in process.get("env") or ():
        key = entry.partition("=")[0]
        if key not in wanted:
            env.append(entry)
        elif (value := wanted.pop(key)) is not None:
            env.append(f"{key}={value}")
    env += [f"{key}={value}" for key, value in wanted.items() if value is not None]
    process["env"] = env


def _hooks(made: Json, hooks: pb.Hooks) -> None:
    for name, theirs in HOOK_NAMES.items():
        for hook in getattr(hooks, name):
            entry: Json = {"path": hook.path}
            if hook.args:
                entry["args"] = list(hook.args)
            if hook.env:
                entry["env"] = list(hook.env)
            if hook.HasField("timeout"):
                entry["timeout"] = hook.timeout.value
            made.setdefault("hooks", {}).setdefault(theirs, []).append(entry)


def _mounts(made: Json, linux: Json, changes: Iterable[pb.Mount]) -> None:
    mounts = list(made.get("mounts") or ())
    changed = False
    for one in changes:
        changed = True
        destination, gone = removal(one.destination)
        mounts = [mount for mount in mounts if mount.get("destination") != destination]
        if gone:
            continue
        entry: Json = {"destination": destination, "source": one.source}
        if one.type:
            entry["type"] = one.type
        if one.options:
            entry["options"] = list(one.options)
        mounts.append(entry)
        _propagate(linux, one.options)
    if changed:
        # What is mounted below another mount has to come after it; equal depths keep their order.
        made["mounts"] = sorted(mounts, key=lambda mount: _depth(mount.get("destination", "")))


def _propagate(linux: Json, options: Iterable[str]) -> None:
    """A shared mount needs a root that is no less shared."""
    now = linux.get("rootfsPropagation", "")
    if "rshared" in options and now != "rshared":
        linux["rootfsPropagation"] = "rshared"
    elif "rslave" in options and now not in {"rshared", "rslave"}:
        linux["rootfsPropagation"] = "rslave"


def _depth(destination: str) -> int:
    return len([part for part in destination.split("/") if part])


def _put(parent: Json, name: str, key: str, value: str, entry: Json) -> None:
    """Replace the entry of a list whose `key` is `value`, or append one."""
    items = [item for item in parent.get(name) or () if item.get(key) != value]
    parent[name] = [*items, entry]


def _drop(parent: Json, name: str, key: str, value: str) -> None:
    if name in parent:
        parent[name] = [item for item in parent[name] or () if item.get(key) != value]


def _linux(linux: Json, process: Json, change: pb.LinuxContainerAdjustment) -> None:
    for device in change.devices:
        _device(linux, device)
    if change.cgroups_path:
        linux["cgroupsPath"] = change.cgroups_path
    if change.HasField("oom_score_adj"):
        process["oomScoreAdj"] = change.oom_score_adj.value
    if change.HasField("io_priority"):
        name = pb.IOPrioClass.Name(getattr(change.io_priority, "class"))
        process["ioPriority"] = {"class": name, "priority": change.io_priority.priority}
    if change.HasField("scheduler"):
        process["scheduler"] = _scheduler(change.scheduler)
    if change.HasField("seccomp_policy"):
        linux["seccomp"] = _seccomp(change.seccomp_policy)
    for namespace in change.namespaces:
        kind, gone = removal(namespace.type)
        _drop(linux, "namespaces", "type", kind)
        if not gone:
            entry = {"type": kind, "path": namespace.path} if namespace.path else {"type": kind}
            linux.setdefault("namespaces", []).append(entry)
    _map(linux, "sysctl", change.sysctl)
    _net_devices(linux, change)
    if change.HasField("memory_policy"):
        linux["memoryPolicy"] = _memory_policy(change.memory_policy)
    if change.HasField("rdt"):
        _rdt(linux, change.rdt)
    if change.HasField("resources"):
        resources = change.resources
        linux["resources"] = updated(linux.get("resources") or {}, resources)
        if resources.HasField("blockio_class"):
            name = resources.blockio_class.value
            raise InvalidArgument(f"NRI: block I/O class {name!r}: no classes are configured here")
        if resources.HasField("rdt_class"):
            linux["intelRdt"] = {"closID": resources.rdt_class.value}


def _device(linux: Json, device: pb.LinuxDevice) -> None:
    path, gone = removal(device.path)
    if gone:
        _drop(linux, "devices", "path", path)
        return
    entry: Json = {
        "path": path,
        "type": device.type,
        "major": device.major,
        "minor": device.minor,
    }
    if device.HasField("file_mode"):
        entry["fileMode"] = device.file_mode.value
    for name in ("uid", "gid"):
        if device.HasField(name):
            entry[name] = getattr(device, name).value
    _put(linux, "devices", "path", path, entry)
    # A device node that the cgroup does not allow would be of no use.
    rules = linux.setdefault("resources", {}).setdefault("devices", [])
    numbers = {"major": device.major, "minor": device.minor}
    rules.append({"allow": True, "type": device.type, **numbers, "access": _access(device)})


def _access(device: pb.LinuxDevice) -> str:
    """Return the rights of the cgroup from the node's permissions; all without any."""
    if not device.HasField("file_mode"):
        return "rwm"
    mode = device.file_mode.value
    return ("r" if mode & 0o444 else "") + ("w" if mode & 0o222 else "") + "m"


def _scheduler(scheduler: pb.LinuxScheduler) -> Json:
    made: Json = {"policy": pb.LinuxSchedulerPolicy.Name(scheduler.policy)}
    for name in ("nice", "priority", "runtime", "deadline", "period"):
        if value := getattr(scheduler, name):
            made[name] = value
    if scheduler.flags:
        made["flags"] = [pb.LinuxSchedulerFlag.Name(flag) for flag in scheduler.flags]
    return made


def _seccomp(policy: pb.LinuxSeccomp) -> Json:
    made: Json = {"defaultAction": policy.default_action}
    if policy.HasField("default_errno"):
        made["defaultErrnoRet"] = policy.default_errno.value
    for name in ("architectures", "flags"):
        if values := getattr(policy, name):
            made[name] = list(values)
    if policy.listener_path:
        made["listenerPath"] = policy.listener_path
    if policy.listener_metadata:
        made["listenerMetadata"] = policy.listener_metadata
    made["syscalls"] = [_syscall(one) for one in policy.syscalls]
    return made


def _syscall(rule: pb.LinuxSyscall) -> Json:
    made: Json = {"names": list(rule.names), "action": rule.action}
    if rule.HasField("errno_ret"):
        made["errnoRet"] = rule.errno_ret.value
    if rule.args:
        made["args"] = [
            {"index": one.index, "value": one.value, "valueTwo": one.value_two, "op": one.op}
            for one in rule.args
        ]
    return made


def _net_devices(linux: Json, change: pb.LinuxContainerAdjustment) -> None:
    for key, device in change.net_devices.items():
        name, gone = removal(key)
        devices = linux.setdefault("netDevices", {})
        if gone:
            devices.pop(name, None)
        else:
            devices[name] = {"name": device.name} if device.name else {}


def _memory_policy(policy: pb.LinuxMemoryPolicy) -> Json:
    made: Json = {"mode": pb.MpolMode.Name(policy.mode)}
    if policy.nodes:
        made["nodes"] = policy.nodes
    if policy.flags:
        made["flags"] = [pb.MpolFlag.Name(flag) for flag in policy.flags]
    return made


def _rdt(linux: Json, rdt: pb.LinuxRdt) -> None:
    if rdt.remove:
        linux.pop("intelRdt", None)
    made: Json = dict(linux.get("intelRdt") or {})
    if rdt.HasField("clos_id"):
        made["closID"] = rdt.clos_id.value
    if rdt.HasField("schemata"):
        made["schemata"] = list(rdt.schemata.value)
    if rdt.HasField("enable_monitoring"):
        made["enableMonitoring"] = rdt.enable_monitoring.value
    if made:
        linux["intelRdt"] = made


def updated(resources: Mapping[str, Any], change: pb.LinuxResources) -> Json:
    """Return a copy of `linux.resources` of config.json with what `change` sets."""
    made: Json = copy.deepcopy(dict(resources))
    for group, names in (("memory", MEMORY_NAMES), ("cpu", CPU_NAMES)):
        source = getattr(change, group)
        for name, theirs in names.items():
            if source.HasField(name):
                made.setdefault(group, {})[theirs] = getattr(source, name).value
    for name in ("cpus", "mems"):
        if value := getattr(change.cpu, name):
            made.setdefault("cpu", {})[name] = value
    if change.HasField("pids"):
        made["pids"] = {"limit": change.pids.limit}
    for limit in change.hugepage_limits:
        entry = {"pageSize": limit.page_size, "limit": limit.limit}
        _put(made, "hugepageLimits", "pageSize", limit.page_size, entry)
    if change.unified:
        made["unified"] = {**(made.get("unified") or {}), **change.unified}
    for rule in change.devices:
        made.setdefault("devices", []).append(_rule(rule))
    return made


def _rule(rule: pb.LinuxDeviceCgroup) -> Json:
    made: Json = {"allow": rule.allow}
    for name in ("type", "access"):
        if value := getattr(rule, name):
            made[name] = value
    for name in ("major", "minor"):
        if rule.HasField(name):
            made[name] = getattr(rule, name).value
    return made
