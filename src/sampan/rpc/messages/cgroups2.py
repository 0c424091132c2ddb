"""Metrics of cgroup v2.

Source: the .proto files of containerd's API, field by field.
"""

from __future__ import annotations

from sampan.rpc.wire import Message, double, message, repeated, string, uint32, uint64


class PidsStat(Message, name="io.containerd.cgroups.v2.PidsStat"):
    """`io.containerd.cgroups.v2.PidsStat`."""

    current: int = uint64(1)
    limit: int = uint64(2)


class PSIData(Message, name="io.containerd.cgroups.v2.PSIData"):
    """`io.containerd.cgroups.v2.PSIData`."""

    avg10: float = double(1)
    avg60: float = double(2)
    avg300: float = double(3)
    total: int = uint64(4)


class PSIStats(Message, name="io.containerd.cgroups.v2.PSIStats"):
    """`io.containerd.cgroups.v2.PSIStats`."""

    some: PSIData | None = message(1, PSIData)
    full: PSIData | None = message(2, PSIData)


class CPUStat(Message, name="io.containerd.cgroups.v2.CPUStat"):
    """`io.containerd.cgroups.v2.CPUStat`."""

    usage_usec: int = uint64(1)
    user_usec: int = uint64(2)
    system_usec: int = uint64(3)
    nr_periods: int = uint64(4)
    nr_throttled: int = uint64(5)
    throttled_usec: int = uint64(6)
    psi: PSIStats | None = message(7, PSIStats)
    nr_bursts: int = uint64(8)
    burst_usec: int = uint64(9)


class MemoryStat(Message, name="io.containerd.cgroups.v2.MemoryStat"):
    """`io.containerd.cgroups.v2.MemoryStat`."""

    anon: int = uint64(1)
    file: int = uint64(2)
    kernel_stack: int = uint64(3)
    slab: int = uint64(4)
    sock: int = uint64(5)
    shmem: int = uint64(6)
    file_mapped: int = uint64(7)
    file_dirty: int = uint64(8)
    file_writeback: int = uint64(9)
    anon_thp: int = uint64(10)
    inactive_anon: int = uint64(11)
    active_anon: int = uint64(12)
    inactive_file: int = uint64(13)
    active_file: int = uint64(14)
    unevictable: int = uint64(15)
    slab_reclaimable: int = uint64(16)
    slab_unreclaimable: int = uint64(17)
    pgfault: int = uint64(18)
    pgmajfault: int = uint64(19)
    workingset_refault: int = uint64(20)
    workingset_activate: int = uint64(21)
    workingset_nodereclaim: int = uint64(22)
    pgrefill: int = uint64(23)
    pgscan: int = uint64(24)
    pgsteal: int = uint64(25)
    pgactivate: int = uint64(26)
    pgdeactivate: int = uint64(27)
    pglazyfree: int = uint64(28)
    pglazyfreed: int = uint64(29)
    thp_fault_alloc: int = uint64(30)
    thp_collapse_alloc: int = uint64(31)
    usage: int = uint64(32)
    usage_limit: int = uint64(33)
    swap_usage: int = uint64(34)
    swap_limit: int = uint64(35)
    max_usage: int = uint64(36)
    swap_max_usage: int = uint64(37)
    psi: PSIStats | None = message(38, PSIStats)
    workingset_refault_anon: int = uint64(39)
    workingset_refault_file: int = uint64(40)
    workingset_activate_anon: int = uint64(41)
    workingset_activate_file: int = uint64(42)


class RdmaEntry(Message, name="io.containerd.cgroups.v2.RdmaEntry"):
    """`io.containerd.cgroups.v2.RdmaEntry`."""

    device: str = string(1)
    hca_handles: int = uint32(2)
    hca_objects: int = uint32(3)


class RdmaStat(Message, name="io.containerd.cgroups.v2.RdmaStat"):
    """`io.containerd.cgroups.v2.RdmaStat`."""

    current: list[RdmaEntry] = repeated(message(1, RdmaEntry))
    limit: list[RdmaEntry] = repeated(message(2, RdmaEntry))


class IOEntry(Message, name="io.containerd.cgroups.v2.IOEntry"):
    """`io.containerd.cgroups.v2.IOEntry`."""

    major: int = uint64(1)
    minor: int = uint64(2)
    rbytes: int = uint64(3)
    wbytes: int = uint64(4)
    rios: int = uint64(5)
    wios: int = uint64(6)


class IOStat(Message, name="io.containerd.cgroups.v2.IOStat"):
    """`io.containerd.cgroups.v2.IOStat`."""

    usage: list[IOEntry] = repeated(message(1, IOEntry))
    psi: PSIStats | None = message(2, PSIStats)


class HugeTlbStat(Message, name="io.containerd.cgroups.v2.HugeTlbStat"):
    """`io.containerd.cgroups.v2.HugeTlbStat`."""

    current: int = uint64(1)
    max: int = uint64(2)
    pagesize: str = string(3)
    failcnt: int = uint64(4)


class MemoryEvents(Message, name="io.containerd.cgroups.v2.MemoryEvents"):
    """`io.containerd.cgroups.v2.MemoryEvents`."""

    low: int = uint64(1)
    high: int = uint64(2)
    max: int = uint64(3)
    oom: int = uint64(4)
    oom_kill: int = uint64(5)
    oom_group_kill: int = uint64(6)


class NetworkStat(Message, name="io.containerd.cgroups.v2.NetworkStat"):
    """`io.containerd.cgroups.v2.NetworkStat`."""

    name: str = string(1)
    rx_bytes: int = uint64(2)
    rx_packets: int = uint64(3)
    rx_errors: int = uint64(4)
    rx_dropped: int = uint64(5)
    tx_bytes: int = uint64(6)
    tx_packets: int = uint64(7)
    tx_errors: int = uint64(8)
    tx_dropped: int = uint64(9)


class Metrics(Message, name="io.containerd.cgroups.v2.Metrics"):
    """`io.containerd.cgroups.v2.Metrics`."""

    pids: PidsStat | None = message(1, PidsStat)
    cpu: CPUStat | None = message(2, CPUStat)
    memory: MemoryStat | None = message(4, MemoryStat)
    rdma: RdmaStat | None = message(5, RdmaStat)
    io: IOStat | None = message(6, IOStat)
    hugetlb: list[HugeTlbStat] = repeated(message(7, HugeTlbStat))
    memory_events: MemoryEvents | None = message(8, MemoryEvents)
    network: list[NetworkStat] = repeated(message(9, NetworkStat))
