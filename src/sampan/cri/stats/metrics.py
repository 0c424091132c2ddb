"""The metrics of ListPodSandboxMetrics, under the names that cadvisor gave them.

`TABLE` is all of them; `container_metrics` and `pod_metrics` make the values. Seconds are whole
ones, for the message's value is an integer.

Source: cadvisor docs/storage/prometheus.md; KEP-2371.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.stats import Layer
from sampan.cri.stats.collect import Descriptors, Figures, FileSystem
from sampan.cri.stats.interfaces import Interface

__all__ = ["TABLE", "Sample", "container_metrics", "descriptors_of", "pod_metrics"]

_LABELS: Final = ("pod", "namespace", "container", "id", "image")
_DISK = (*_LABELS, "device")
_NETWORK = (*_LABELS, "interface")
_COUNTER, _GAUGE = pb.MetricType.COUNTER, pb.MetricType.GAUGE
_SECOND_NS = 1_000_000_000

TABLE: Final[Mapping[str, tuple[str, pb.MetricType, Sequence[str]]]] = {
    "container_cpu_usage_seconds_total": ("CPU time used, in seconds.", _COUNTER, _LABELS),
    "container_cpu_user_seconds_total": ("CPU time in user mode, in seconds.", _COUNTER, _LABELS),
    "container_cpu_system_seconds_total": ("CPU time of the kernel, seconds.", _COUNTER, _LABELS),
    "container_cpu_cfs_periods_total": ("Enforcement periods that have passed.", _COUNTER, _LABELS),
    "container_cpu_cfs_throttled_periods_total": (
        "Periods in which the CPU limit was reached.", _COUNTER, _LABELS,
    ),
    "container_cpu_cfs_throttled_seconds_total": (
        "Time spent throttled, in seconds.", _COUNTER, _LABELS,
    ),
    "container_memory_usage_bytes": ("Memory charged now, caches included.", _GAUGE, _LABELS),
    "container_memory_max_usage_bytes": ("Most memory ever charged.", _GAUGE, _LABELS),
    "container_memory_working_set_bytes": (
        "Memory in use without inactive file cache.", _GAUGE, _LABELS,
    ),
    "container_memory_rss": ("Anonymous memory.", _GAUGE, _LABELS),
    "container_memory_cache": ("Page cache.", _GAUGE, _LABELS),
    "container_memory_kernel_usage": ("Kernel memory: stacks, tables, slabs.", _GAUGE, _LABELS),
    "container_memory_mapped_file": ("Memory-mapped files.", _GAUGE, _LABELS),
    "container_memory_swap": ("Swap used.", _GAUGE, _LABELS),
    "container_memory_failcnt": ("Times the memory limit was hit.", _COUNTER, _LABELS),
    "container_memory_total_active_file_bytes": ("Active file cache.", _GAUGE, _LABELS),
    "container_memory_total_inactive_file_bytes": ("Inactive file cache.", _GAUGE, _LABELS),
    "container_memory_failures_total": (
        "Page faults, minor and major together or major alone.",
        _COUNTER,
        (*_LABELS, "failure_type", "scope"),
    ),
    "container_oom_events_total": ("Processes killed for want of memory.", _COUNTER, _LABELS),
    "container_fs_usage_bytes": ("Bytes in the writable layer.", _GAUGE, _DISK),
    "container_fs_limit_bytes": ("Size of the file system below it.", _GAUGE, _DISK),
    "container_fs_inodes_total": ("Inodes of the file system below it.", _GAUGE, _DISK),
    "container_fs_inodes_free": ("Free inodes of the file system below it.", _GAUGE, _DISK),
    "container_fs_reads_total": ("Reads that reached a device.", _COUNTER, _DISK),
    "container_fs_reads_bytes_total": ("Bytes read from a device.", _COUNTER, _DISK),
    "container_fs_writes_total": ("Writes that reached a device.", _COUNTER, _DISK),
    "container_fs_writes_bytes_total": ("Bytes written to a device.", _COUNTER, _DISK),
    "container_blkio_device_usage_total": (
        "Bytes moved to or from a device.", _COUNTER, (*_DISK, "major", "minor", "operation"),
    ),
    "container_network_receive_bytes_total": ("Bytes received.", _COUNTER, _NETWORK),
    "container_network_receive_packets_total": ("Packets received.", _COUNTER, _NETWORK),
    "container_network_receive_packets_dropped_total": (
        "Packets dropped on receipt.", _COUNTER, _NETWORK,
    ),
    "container_network_receive_errors_total": ("Errors on receipt.", _COUNTER, _NETWORK),
    "container_network_transmit_bytes_total": ("Bytes sent.", _COUNTER, _NETWORK),
    "container_network_transmit_packets_total": ("Packets sent.", _COUNTER, _NETWORK),
    "container_network_transmit_packets_dropped_total": (
        "Packets dropped on sending.", _COUNTER, _NETWORK,
    ),
    "container_network_transmit_errors_total": ("Errors on sending.", _COUNTER, _NETWORK),
    "container_processes": ("Processes.", _GAUGE, _LABELS),
    "container_threads": ("Threads.", _GAUGE, _LABELS),
    "container_threads_max": ("Limit of threads; 0 is none.", _GAUGE, _LABELS),
    "container_file_descriptors": ("Open file descriptors.", _GAUGE, _LABELS),
    "container_sockets": ("Open sockets.", _GAUGE, _LABELS),
    "container_ulimits_soft": (
        "Soft limits of the first process; 2**64-1 is none.", _GAUGE, (*_LABELS, "ulimit"),
    ),
    "container_last_seen": ("When these figures were read, Unix time.", _GAUGE, _LABELS),
    "container_start_time_seconds": ("When the container started, Unix time.", _GAUGE, _LABELS),
    "container_spec_cpu_period": ("CPU period, in microseconds.", _GAUGE, _LABELS),
    "container_spec_cpu_shares": ("CPU shares.", _GAUGE, _LABELS),
    "container_spec_memory_limit_bytes": ("Memory limit.", _GAUGE, _LABELS),
    "container_spec_memory_reservation_limit_bytes": ("Memory reservation.", _GAUGE, _LABELS),
    "container_spec_memory_swap_limit_bytes": ("Limit of memory and swap.", _GAUGE, _LABELS),
}  # fmt: skip
"""Name to help, type, and the keys of its labels."""


class Sample(NamedTuple):
    """All that a container's metrics are made of."""

    figures: Figures
    descriptors: Descriptors
    soft_limits: Mapping[str, int]
    started_at_ns: int
    layer: Layer | None = None
    file_system: FileSystem | None = None
    spec: Mapping[str, Any] | None = None


def descriptors_of() -> list[pb.MetricDescriptor]:
    """Return what ListMetricDescriptors answers."""
    return [
        pb.MetricDescriptor(name=name, help=text, label_keys=keys)
        for name, (text, _, keys) in TABLE.items()
    ]


def pod_metrics(
    labels: Sequence[str], interfaces: Sequence[Interface], timestamp_ns: int
) -> list[pb.Metric]:
    """Return the metrics that belong to a pod as a whole: its network."""
    made = _Made(labels, timestamp_ns)
    for one in interfaces:
        for direction, prefix in (("receive", "rx"), ("transmit", "tx")):
            name = f"container_network_{direction}"
            made.add(f"{name}_bytes_total", getattr(one, f"{prefix}_bytes"), one.name)
            made.add(f"{name}_packets_total", getattr(one, f"{prefix}_packets"), one.name)
            dropped = getattr(one, f"{prefix}_dropped")
            made.add(f"{name}_packets_dropped_total", dropped, one.name)
            made.add(f"{name}_errors_total", getattr(one, f"{prefix}_errors"), one.name)
    return made.metrics


def container_metrics(labels: Sequence[str], sample: Sample) -> list[pb.Metric]:
    """Return a container's metrics; `labels` are pod, namespace, container, id and image."""
    made = _Made(labels, sample.figures.timestamp_ns)
    for part in (_general, _cpu, _memory, _disk, _files, _processes, _spec):
        part(made, sample)
    return made.metrics


class _Made:
    """Metrics under way."""

    def __init__(self, labels: Sequence[str], timestamp_ns: int) -> None:
        self._labels = list(labels)
        self._timestamp_ns = timestamp_ns
        self.metrics: list[pb.Metric] = []

    def add(self, name: str, value: int | None, *more: str) -> None:
        """Add a value; None is not known, and adds nothing."""
        if value is None:
            return
        self.metrics.append(
            pb.Metric(
                name=name,
                timestamp=self._timestamp_ns,
                metric_type=TABLE[name][1],
                label_values=[*self._labels, *more],
                value=pb.UInt64Value(value=value),
            )
        )


def _general(made: _Made, sample: Sample) -> None:
    made.add("container_last_seen", sample.figures.timestamp_ns // _SECOND_NS)
    made.add("container_start_time_seconds", sample.started_at_ns // _SECOND_NS)


def _cpu(made: _Made, sample: Sample) -> None:
    figures = sample.figures
    if figures.cpu_ns is None:
        return
    made.add("container_cpu_usage_seconds_total", figures.cpu_ns // _SECOND_NS)
    made.add("container_cpu_user_seconds_total", figures.cpu_user_ns // _SECOND_NS)
    made.add("container_cpu_system_seconds_total", figures.cpu_system_ns // _SECOND_NS)
    made.add("container_cpu_cfs_periods_total", figures.cpu_periods)
    made.add("container_cpu_cfs_throttled_periods_total", figures.cpu_throttled_periods)
    seconds = figures.cpu_throttled_ns // _SECOND_NS
    made.add("container_cpu_cfs_throttled_seconds_total", seconds)


def _memory(made: _Made, sample: Sample) -> None:
    figures = sample.figures
    if figures.memory_bytes is None:
        return
    made.add("container_memory_usage_bytes", figures.memory_bytes)
    made.add("container_memory_max_usage_bytes", figures.memory_peak)
    made.add("container_memory_working_set_bytes", figures.working_set_bytes)
    made.add("container_memory_rss", figures.rss_bytes)
    made.add("container_memory_cache", figures.cache_bytes)
    made.add("container_memory_kernel_usage", figures.kernel_bytes)
    made.add("container_memory_mapped_file", figures.mapped_file_bytes)
    made.add("container_memory_swap", figures.swap_bytes or 0)
    made.add("container_memory_failcnt", figures.memory_failures)
    made.add("container_memory_total_active_file_bytes", figures.active_file_bytes)
    made.add("container_memory_total_inactive_file_bytes", figures.inactive_file_bytes)
    made.add("container_memory_failures_total", figures.page_faults, "pgfault", "container")
    made.add(
        "container_memory_failures_total", figures.major_page_faults, "pgmajfault", "container"
    )
    made.add("container_oom_events_total", figures.oom_kills)


def _entries(counts: Mapping[str, int]) -> Iterator[tuple[str, str, str, int]]:
    for key, value in counts.items():
        number, _, operation = key.partition(" ")
        major, _, minor = number.partition(":")
        yield major, minor, operation, value


def _disk(made: _Made, sample: Sample) -> None:
    figures = sample.figures
    for major, minor, operation, value in _entries(figures.io_bytes):
        device = _device(major, minor)
        made.add("container_blkio_device_usage_total", value, device, major, minor, operation)
        if operation in {"Read", "Write"}:
            made.add(f"container_fs_{operation.lower()}s_bytes_total", value, device)
    for major, minor, operation, value in _entries(figures.io_operations):
        if operation in {"Read", "Write"}:
            made.add(f"container_fs_{operation.lower()}s_total", value, _device(major, minor))


@lru_cache(maxsize=256)
def _device(major: str, minor: str) -> str:
    """Return the path of a block device; its number when it has no name (any more)."""
    try:
        return "/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{major}:{minor}"))
    except OSError:
        return f"{major}:{minor}"


def _files(made: _Made, sample: Sample) -> None:
    layer, below = sample.layer, sample.file_system
    if layer is not None:
        made.add("container_fs_usage_bytes", layer.used_bytes, "/")
    if below is not None:
        made.add("container_fs_limit_bytes", below.size_bytes, "/")
        made.add("container_fs_inodes_total", below.inodes, "/")
        made.add("container_fs_inodes_free", below.inodes_free, "/")


def _processes(made: _Made, sample: Sample) -> None:
    figures = sample.figures
    made.add("container_processes", len(figures.pids))
    made.add("container_threads", figures.threads)
    if figures.threads is not None:
        made.add("container_threads_max", figures.threads_limit or 0)
    made.add("container_file_descriptors", sample.descriptors.files)
    made.add("container_sockets", sample.descriptors.sockets)
    process = (sample.spec or {}).get("process") or {}
    asked = [limit.get("type", "") for limit in process.get("rlimits") or ()]
    for name in dict.fromkeys(["RLIMIT_NOFILE", *asked]):
        made.add("container_ulimits_soft", sample.soft_limits.get(name), name)


def _spec(made: _Made, sample: Sample) -> None:
    resources = ((sample.spec or {}).get("linux") or {}).get("resources") or {}
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    known = {
        "container_spec_cpu_period": cpu.get("period"),
        "container_spec_cpu_shares": cpu.get("shares"),
        "container_spec_memory_limit_bytes": memory.get("limit"),
        "container_spec_memory_reservation_limit_bytes": memory.get("reservation"),
        "container_spec_memory_swap_limit_bytes": memory.get("swap"),
    }
    for name, value in known.items():
        # -1 is no limit, which cadvisor shows as zero.
        made.add(name, max(value, 0) if isinstance(value, int) else None)
