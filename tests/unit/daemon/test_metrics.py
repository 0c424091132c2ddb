"""What a task's stats become: containerd's names, of version 1 and 2."""

from __future__ import annotations

from sampan.daemon.metrics import container_samples
from sampan.rpc.messages import cgroups1, cgroups2


def test_version_1() -> None:
    stats = cgroups1.Metrics(
        cpu=cgroups1.CPUStat(usage=cgroups1.CPUUsage(total=7, per_cpu=[3, 4])),
        memory=cgroups1.MemoryStat(usage=cgroups1.MemoryEntry(usage=9, limit=2**63)),
        blkio=cgroups1.BlkIOStat(
            io_service_bytes_recursive=[
                cgroups1.BlkIOEntry(op="Read", device="/dev/vda", major=254, minor=0, value=5)
            ]
        ),
        pids=cgroups1.PidsStat(current=2),
    )
    found = list(container_samples("io.containerd.cgroups.v1.Metrics", bytes(stats)))
    flat = {(name, *labels.values()): value for name, _, labels, value in found}
    assert flat["container_cpu_total_nanoseconds",] == 7
    assert flat["container_per_cpu_nanoseconds", "1"] == 4
    assert flat["container_memory_usage_usage_bytes",] == 9
    assert flat["container_pids_current",] == 2
    assert flat["container_blkio_io_service_bytes_recursive_bytes", "/dev/vda", "254", "0", "Read"]
    assert ("container_memory_swap_usage_bytes",) not in flat


def test_version_2() -> None:
    stats = cgroups2.Metrics(
        cpu=cgroups2.CPUStat(usage_usec=7),
        memory=cgroups2.MemoryStat(usage=9, anon=3),
        memory_events=cgroups2.MemoryEvents(oom=1),
        io=cgroups2.IOStat(usage=[cgroups2.IOEntry(major=8, minor=1, rbytes=4, wbytes=5)]),
    )
    found = list(container_samples("io.containerd.cgroups.v2.Metrics", bytes(stats)))
    flat = {(name, *labels.values()): value for name, _, labels, value in found}
    assert flat["container_cpu_usage_usec_microseconds",] == 7
    assert flat["container_memory_anon_bytes",] == 3
    assert flat["container_memory_oom_total",] == 1
    assert flat["container_io_wbytes_bytes", "8", "1"] == 5


def test_others_say_nothing() -> None:
    assert list(container_samples("io.containerd.kata.v1.Metrics", b"\x01")) == []
