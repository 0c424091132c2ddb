"""config.json, `linux`. Source: config-linux.md."""

from __future__ import annotations

from sampan.model.runtime.resources import Resources
from sampan.model.runtime.seccomp import Seccomp
from sampan.model.runtime.struct import Struct

Uint32 = int

__all__ = [
    "Device",
    "IDMapping",
    "IntelRdt",
    "Linux",
    "MemoryPolicy",
    "Namespace",
    "NetDevice",
    "Personality",
    "TimeOffset",
]


class Namespace(Struct):
    type: str
    """pid, network, mount, ipc, uts, user, cgroup or time."""
    path: str = ""
    """Of a namespace to join; empty makes a new one."""


class IDMapping(Struct):
    NAMES = {"container_id": "containerID", "host_id": "hostID"}  # noqa: RUF012

    container_id: Uint32
    host_id: Uint32
    size: Uint32


class TimeOffset(Struct):
    secs: int = 0
    nanosecs: Uint32 = 0


class Device(Struct):
    """A device node to make below the root."""

    path: str
    type: str
    """`c`, `u`, `b` or `p`."""
    major: int = 0
    minor: int = 0
    file_mode: Uint32 | None = None
    uid: Uint32 | None = None
    gid: Uint32 | None = None


class NetDevice(Struct):
    name: str = ""
    """Name inside the container; empty keeps it."""


class IntelRdt(Struct):
    NAMES = {  # noqa: RUF012
        "clos_id": "closID",
        "enable_cmt": "enableCMT",
        "enable_mbm": "enableMBM",
    }

    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_cmt: bool = False
    enable_mbm: bool = False
    enable_monitoring: bool = False


class Personality(Struct):
    domain: str
    flags: tuple[str, ...] = ()


class MemoryPolicy(Struct):
    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


class Linux(Struct):
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    sysctl: dict[str, str] | None = None
    resources: Resources | None = None
    cgroups_path: str = ""
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    net_devices: dict[str, NetDevice] | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] | None = None
