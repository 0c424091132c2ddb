"""config.json, `linux.resources`: what cgroups limit. Source: config-linux.md#control-groups.

None and missing leave the cgroup's value alone. -1 is no limit where a limit is meant.
"""

from __future__ import annotations

from sampan.model.runtime.struct import Struct

Uint32 = int

__all__ = [
    "CPU",
    "BlockIO",
    "DeviceRule",
    "HugepageLimit",
    "InterfacePriority",
    "Memory",
    "Network",
    "Pids",
    "Rdma",
    "Resources",
    "ThrottleDevice",
    "WeightDevice",
]


class DeviceRule(Struct):
    """A rule of the devices cgroup; missing type means all, missing numbers mean any."""

    allow: bool = False
    type: str = ""
    """`a`, `b`, `c`, or empty for all."""
    major: int | None = None
    minor: int | None = None
    access: str = ""
    """Letters of `rwm`; empty is all of them."""


class Memory(Struct):
    """Bytes; -1 is no limit."""

    NAMES = {"disable_oom_killer": "disableOOMKiller", "kernel_tcp": "kernelTCP"}  # noqa: RUF012

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    """Memory and swap together, as cgroup v1 counts; v2 wants the difference."""
    kernel: int | None = None
    """Ignored since Linux 5.11 dropped it."""
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class CPU(Struct):
    """Times in microseconds."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(Struct):
    limit: int | None = None
    """Most tasks at once; -1 is no limit."""


class WeightDevice(Struct):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(Struct):
    major: int
    minor: int
    rate: int = 0
    """Bytes or operations a second."""


class BlockIO(Struct):
    NAMES = {  # noqa: RUF012
        "throttle_read_iops_device": "throttleReadIOPSDevice",
        "throttle_write_iops_device": "throttleWriteIOPSDevice",
    }

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(Struct):
    page_size: str
    """As in `2MB`."""
    limit: int


class InterfacePriority(Struct):
    name: str
    priority: Uint32


class Network(Struct):
    NAMES = {"class_id": "classID"}  # noqa: RUF012

    class_id: Uint32 | None = None
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(Struct):
    hca_handles: Uint32 | None = None
    hca_objects: Uint32 | None = None


class Resources(Struct):
    """One field for each controller."""

    NAMES = {"block_io": "blockIO"}  # noqa: RUF012

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] | None = None
    unified: dict[str, str] | None = None
