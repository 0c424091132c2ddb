"""What all plugins together want, one after the other: each sees what those before it have done.

Lists and maps are keyed (mounts by destination, variables by name, devices by path …); an entry
whose key begins with `-` removes that entry. Two plugins that set the same thing conflict, see
`owners`; only hooks and device rules add up.

Source: containerd/nri pkg/adaptation/result.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Final

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri.owners import Owners, removal
from sampan.errors import InvalidArgument

__all__ = ["Merge"]

F = pb.Field
_RESOURCES: Final = {
    ("memory", "limit"): F.MemLimit,
    ("memory", "reservation"): F.MemReservation,
    ("memory", "swap"): F.MemSwapLimit,
    ("memory", "kernel"): F.MemKernelLimit,
    ("memory", "kernel_tcp"): F.MemTCPLimit,
    ("memory", "swappiness"): F.MemSwappiness,
    ("memory", "disable_oom_killer"): F.MemDisableOomKiller,
    ("memory", "use_hierarchy"): F.MemUseHierarchy,
    ("cpu", "shares"): F.CPUShares,
    ("cpu", "quota"): F.CPUQuota,
    ("cpu", "period"): F.CPUPeriod,
    ("cpu", "realtime_runtime"): F.CPURealtimeRuntime,
    ("cpu", "realtime_period"): F.CPURealtimePeriod,
    ("cpu", "cpus"): F.CPUSetCPUs,
    ("cpu", "mems"): F.CPUSetMems,
}
_CLASSES: Final = {
    "blockio_class": F.BlockioClass,
    "rdt_class": F.RdtClass,
    "pids": F.PidsLimit,
}
_WHOLE: Final = {
    "oom_score_adj": F.OomScoreAdj,
    "io_priority": F.IoPriority,
    "seccomp_policy": F.SeccompPolicy,
    "scheduler": F.LinuxSched,
    "memory_policy": F.MemoryPolicy,
}
"""Fields of LinuxContainerAdjustment that are set as a whole."""
_RDT: Final = {
    "clos_id": F.RdtClosID,
    "schemata": F.RdtSchemata,
    "enable_monitoring": F.RdtEnableMonitoring,
}
_HOOKS: Final = (
    "prestart",
    "create_runtime",
    "create_container",
    "start_container",
    "poststart",
    "poststop",
)


class Merge:
    """One request, while it goes from plugin to plugin."""

    def __init__(
        self,
        container: pb.Container | None = None,
        resources: pb.LinuxResources | None = None,
        *,
        creating: bool = False,
    ) -> None:
        """Begin with what was asked for.

        Args:
          container: What it is about; copied, and changed for the eyes of later plugins.
          resources: Of UpdateContainer.
          creating: Whether this is CreateContainer.
        """
        self.container = pb.Container()
        if container is not None:
            self.container.CopyFrom(container)
        self.resources = pb.LinuxResources()
        if resources is not None:
            self.resources.CopyFrom(resources)
        self._creating = creating
        self.adjust = pb.ContainerAdjustment()
        self.updates: dict[str, pb.ContainerUpdate] = {}
        self.evict: list[pb.ContainerEviction] = []
        self.owners = Owners()

    def _claim(self, field: int, plugin: str, key: str | None = None) -> None:
        self.owners.claim(self.container.id, field, plugin, key)

    def _clear(self, field: int, plugin: str, key: str | None = None) -> None:
        self.owners.clear(self.container.id, field, plugin, key)

    # --- adjustments ---------------------------------------------------------------------

    def add_adjustment(self, adjust: pb.ContainerAdjustment, plugin: str) -> None:
        """Take a plugin's changes to the container that is being created.

        Raises:
          InvalidArgument: Another plugin has set one of these.
        """
        ours, theirs = self.adjust, adjust
        container, linux = self.container, self.container.linux
        self._map(
            F.Annotations, theirs.annotations, ours.annotations, container.annotations, plugin
        )
        self._list(F.Mounts, theirs.mounts, ours.mounts, container.mounts, _destination, plugin)
        self._env(theirs.env, plugin)
        self._args(theirs.args, plugin)
        self._hooks(theirs.hooks, plugin)
        if theirs.HasField("linux"):
            self._linux(theirs.linux, ours.linux, linux, plugin)
        for limit in theirs.rlimits:
            self._claim(F.Rlimits, plugin, limit.type)
            ours.rlimits.append(limit)
            _drop(container.rlimits, limit.type, _type)
            container.rlimits.append(limit)
        for device in theirs.CDI_devices:
            self._claim(F.CdiDevices, plugin, device.name)
            ours.CDI_devices.append(device)
            container.CDI_devices.append(device)

    def _linux(
        self,
        theirs: pb.LinuxContainerAdjustment,
        ours: pb.LinuxContainerAdjustment,
        container: pb.LinuxContainer,
        plugin: str,
    ) -> None:
        self._list(F.Devices, theirs.devices, ours.devices, container.devices, _path, plugin)
        if theirs.HasField("resources"):
            places = (ours.resources, container.resources)
            self._resources(self.container.id, theirs.resources, places, plugin)
        if theirs.cgroups_path:
            self._claim(F.CgroupsPath, plugin)
            ours.cgroups_path = container.cgroups_path = theirs.cgroups_path
        for name, field in _WHOLE.items():
            if theirs.HasField(name):
                self._claim(field, plugin)
                getattr(ours, name).CopyFrom(getattr(theirs, name))
                if name != "memory_policy":  # the container's message has no place for it
                    getattr(container, name).CopyFrom(getattr(theirs, name))
        for namespace in theirs.namespaces:
            kind, gone = removal(namespace.type)
            self._claim(F.Namespace, plugin, kind)
            _drop(container.namespaces, kind, _type)
            if not gone:
                container.namespaces.append(namespace)
            ours.namespaces.append(namespace)
        self._map(F.Sysctl, theirs.sysctl, ours.sysctl, container.sysctl, plugin)
        self._net_devices(theirs, ours, container, plugin)
        if theirs.HasField("rdt"):
            self._rdt(theirs.rdt, ours.rdt, container.rdt, plugin)

    def _map(
        self,
        field: int,
        theirs: MutableMapping[str, str],
        ours: MutableMapping[str, str],
        container: MutableMapping[str, str],
        plugin: str,
    ) -> None:
        removed = {key for key, gone in map(removal, theirs) if gone}
        for key in sorted(removed):
            self._clear(field, plugin, key)
            ours.pop(key, None)
            ours[f"-{key}"] = ""
            container.pop(key, None)
        for key, value in theirs.items():
            if not removal(key)[1]:
                self._claim(field, plugin, key)
                ours[key] = container[key] = value

    def _list(
        self,
        field: int,
        theirs: Iterable[Any],
        ours: Any,
        container: Any,
        key_of: Callable[[Any], str],
        plugin: str,
    ) -> None:
        added: list[Any] = []

        def bare(one: Any) -> str:
            return removal(key_of(one))[0]

        for one in theirs:
            key, gone = removal(key_of(one))
            if gone:
                self._clear(field, plugin, key)
                _drop(ours, key, bare)
                ours.append(one)
                _drop(container, key, key_of)
            else:
                added.append(one)
        for one in added:
            key = key_of(one)
            self._claim(field, plugin, key)
            # An addition replaces what is there, so that a removal before it is superfluous.
            _drop(ours, key, bare)
            _drop(container, key, key_of)
            ours.append(one)
            container.append(one)

    def _env(self, theirs: Iterable[pb.KeyValue], plugin: str) -> None:
        seen = [pb.KeyValue(key=one.partition("=")[0]) for one in self.container.env]
        values = dict(one.partition("=")[::2] for one in self.container.env)
        for one in seen:
            one.value = values[one.key]
        container = pb.ContainerAdjustment(env=seen)
        self._list(F.Env, theirs, self.adjust.env, container.env, _key, plugin)
        del self.container.env[:]
        self.container.env.extend(f"{one.key}={one.value}" for one in container.env)

    def _args(self, theirs: Iterable[str], plugin: str) -> None:
        args = list(theirs)
        if not args:
            return
        if args[0] == "":  # asks to override what another one has set
            self._clear(F.Args, plugin)
            args = args[1:]
        self._claim(F.Args, plugin)
        self.adjust.args[:] = args
        self.container.args[:] = args

    def _hooks(self, theirs: pb.Hooks, plugin: str) -> None:
        claimed = False
        for name in _HOOKS:
            hooks = getattr(theirs, name)
            getattr(self.adjust.hooks, name).extend(hooks)
            getattr(self.container.hooks, name).extend(hooks)
            claimed = claimed or bool(hooks)
        if claimed:
            self.owners.add(self.container.id, F.OciHooks, plugin)

    def _net_devices(
        self,
        theirs: pb.LinuxContainerAdjustment,
        ours: pb.LinuxContainerAdjustment,
        container: pb.LinuxContainer,
        plugin: str,
    ) -> None:
        for key in sorted(theirs.net_devices, key=lambda key: not key.startswith("-")):
            name, gone = removal(key)
            if gone:
                self._clear(F.LinuxNetDevices, plugin, name)
                ours.net_devices.pop(name, None)
                container.net_devices.pop(name, None)
                ours.net_devices[key].SetInParent()
            else:
                self._claim(F.LinuxNetDevices, plugin, name)
                ours.net_devices[name].CopyFrom(theirs.net_devices[name])
                container.net_devices[name].CopyFrom(theirs.net_devices[name])

    def _rdt(
        self, theirs: pb.LinuxRdt, ours: pb.LinuxRdt, container: pb.LinuxRdt, plugin: str
    ) -> None:
        if theirs.remove:
            for field in _RDT.values():
                self._clear(field, plugin)
            ours.Clear()
            container.Clear()
            ours.remove = True
        for name, field in _RDT.items():
            if theirs.HasField(name):
                self._claim(field, plugin)
                getattr(ours, name).CopyFrom(getattr(theirs, name))
                getattr(container, name).CopyFrom(getattr(theirs, name))

    # --- resources -----------------------------------------------------------------------

    def _resources(
        self,
        container_id: str,
        theirs: pb.LinuxResources,
        places: tuple[pb.LinuxResources, ...],
        plugin: str,
        *,
        devices: bool = True,
    ) -> None:
        """Copy what is set into `places`, claiming each field for `plugin`."""

        def claim(field: int, key: str | None = None) -> None:
            self.owners.claim(container_id, field, plugin, key)

        for (group, name), field in _RESOURCES.items():
            source = getattr(theirs, group)
            if name in {"cpus", "mems"}:
                if value := getattr(source, name):
                    claim(field)
                    for place in places:
                        setattr(getattr(place, group), name, value)
            elif source.HasField(name):
                claim(field)
                for place in places:
                    getattr(getattr(place, group), name).CopyFrom(getattr(source, name))
        for name, field in _CLASSES.items():
            if theirs.HasField(name):
                claim(field)
                for place in places:
                    getattr(place, name).CopyFrom(getattr(theirs, name))
        for limit in theirs.hugepage_limits:
            claim(F.HugepageLimits, limit.page_size)
            for place in places:
                _drop(place.hugepage_limits, limit.page_size, _page_size)
                place.hugepage_limits.append(limit)
        for key, text in theirs.unified.items():
            claim(F.CgroupsUnified, key)
            for place in places:
                place.unified[key] = text
        if devices:
            for place in places:
                place.devices.extend(theirs.devices)

    # --- updates of containers that exist ------------------------------------------------

    def add_updates(self, updates: Iterable[pb.ContainerUpdate], plugin: str) -> None:
        """Take a plugin's changes to containers that exist.

        Raises:
          InvalidArgument: Another plugin has set one of these and failures are not ignored, or
            the container is the one that is just being created.
        """
        for update in updates:
            id = update.container_id  # noqa: A001 - the API's word
            if self._creating and id == self.container.id:
                raise InvalidArgument(
                    f"NRI plugin {plugin!r} asked to update container {id} during its creation"
                )
            own = not self._creating and id == self.container.id
            known = self.updates.get(id)
            made = pb.ContainerUpdate(container_id=id, ignore_failure=update.ignore_failure)
            if known is not None:
                made.CopyFrom(known)
                made.ignore_failure = known.ignore_failure and update.ignore_failure
            resources = pb.LinuxResources()
            resources.CopyFrom(self.resources if own else made.linux.resources)
            try:
                places = (resources,)
                self._resources(id, update.linux.resources, places, plugin, devices=False)
            except InvalidArgument:
                if not update.ignore_failure:
                    raise
                continue
            if own:
                self.resources = resources
            else:
                made.linux.resources.CopyFrom(resources)
                self.updates[id] = made

    def add_evictions(self, evictions: Iterable[pb.ContainerEviction]) -> None:
        """Take the containers that a plugin wants to end."""
        self.evict.extend(evictions)


def _drop(items: Any, key: str, key_of: Callable[[Any], str]) -> None:
    """Remove from a repeated field what has `key`."""
    kept = [item for item in items if key_of(item) != key]
    if len(kept) != len(items):
        copies = [type(item).FromString(item.SerializeToString()) for item in kept]
        del items[:]
        items.extend(copies)


def _destination(mount: pb.Mount) -> str:
    return mount.destination


def _path(device: pb.LinuxDevice) -> str:
    return device.path


def _key(variable: pb.KeyValue) -> str:
    return variable.key


def _type(limit_or_namespace: Any) -> str:
    return str(limit_or_namespace.type)


def _page_size(limit: pb.HugepageLimit) -> str:
    return limit.page_size
