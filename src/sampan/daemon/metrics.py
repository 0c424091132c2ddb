"""`/v1/metrics`: the process, its gRPC calls, and what each container uses, by containerd's names.

Containers are asked at each scrape, side by side, and one that does not answer within a second is
left out of that scrape.

Source: containerd core/metrics (names and units), docs/ops.md.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sampan import __version__, context
from sampan.daemon.calls import CallMetrics
from sampan.daemon.http import Answer, Route
from sampan.daemon.prometheus import CONTENT_TYPE, Family, render
from sampan.engine import Engine
from sampan.errors import SampanError
from sampan.rpc.messages import cgroups1, cgroups2
from sampan.rpc.wire import Message
from sampan.runtime import ProcessState, Status

__all__ = ["container_samples", "routes"]

_SCRAPE_S: Final = 1.0
_AT_ONCE: Final = 32

_V1: Final = {
    "cpu.usage.total": ("container_cpu_total_nanoseconds", "counter"),
    "cpu.usage.kernel": ("container_cpu_kernel_nanoseconds", "counter"),
    "cpu.usage.user": ("container_cpu_user_nanoseconds", "counter"),
    "cpu.throttling.periods": ("container_cpu_throttle_periods_total", "counter"),
    "cpu.throttling.throttled_periods": ("container_cpu_throttled_periods_total", "counter"),
    "cpu.throttling.throttled_time": ("container_cpu_throttled_time_nanoseconds", "counter"),
    "memory.usage.usage": ("container_memory_usage_usage_bytes", "gauge"),
    "memory.usage.limit": ("container_memory_usage_limit_bytes", "gauge"),
    "memory.usage.max": ("container_memory_usage_max_bytes", "gauge"),
    "memory.usage.failcnt": ("container_memory_usage_failcnt_total", "counter"),
    "memory.swap.usage": ("container_memory_swap_usage_bytes", "gauge"),
    "memory.swap.limit": ("container_memory_swap_limit_bytes", "gauge"),
    "memory.kernel.usage": ("container_memory_kernel_usage_bytes", "gauge"),
    "memory.kernel.limit": ("container_memory_kernel_limit_bytes", "gauge"),
    "memory.kernel_tcp.usage": ("container_memory_kerneltcp_usage_bytes", "gauge"),
    "memory.cache": ("container_memory_cache_bytes", "gauge"),
    "memory.rss": ("container_memory_rss_bytes", "gauge"),
    "memory.rss_huge": ("container_memory_rss_huge_bytes", "gauge"),
    "memory.mapped_file": ("container_memory_mapped_file_bytes", "gauge"),
    "memory.dirty": ("container_memory_dirty_bytes", "gauge"),
    "memory.writeback": ("container_memory_writeback_bytes", "gauge"),
    "memory.pg_fault": ("container_memory_pgfault_bytes", "gauge"),
    "memory.pg_maj_fault": ("container_memory_pgmajfault_bytes", "gauge"),
    "memory.inactive_anon": ("container_memory_inactive_anon_bytes", "gauge"),
    "memory.active_anon": ("container_memory_active_anon_bytes", "gauge"),
    "memory.inactive_file": ("container_memory_inactive_file_bytes", "gauge"),
    "memory.active_file": ("container_memory_active_file_bytes", "gauge"),
    "memory.total_cache": ("container_memory_total_cache_bytes", "gauge"),
    "memory.total_rss": ("container_memory_total_rss_bytes", "gauge"),
    "memory_oom_control.oom_kill": ("container_memory_oom_total", "counter"),
    "pids.current": ("container_pids_current", "gauge"),
    "pids.limit": ("container_pids_limit", "gauge"),
}
_V2: Final = {
    "cpu.usage_usec": ("container_cpu_usage_usec_microseconds", "counter"),
    "cpu.user_usec": ("container_cpu_user_usec_microseconds", "counter"),
    "cpu.system_usec": ("container_cpu_system_usec_microseconds", "counter"),
    "cpu.nr_periods": ("container_cpu_nr_periods_total", "counter"),
    "cpu.nr_throttled": ("container_cpu_nr_throttled_total", "counter"),
    "cpu.throttled_usec": ("container_cpu_throttled_usec_microseconds", "counter"),
    "memory.usage": ("container_memory_usage_bytes", "gauge"),
    "memory.usage_limit": ("container_memory_usage_limit_bytes", "gauge"),
    "memory.swap_usage": ("container_memory_swap_usage_bytes", "gauge"),
    "memory.swap_limit": ("container_memory_swap_limit_bytes", "gauge"),
    "memory.anon": ("container_memory_anon_bytes", "gauge"),
    "memory.file": ("container_memory_file_bytes", "gauge"),
    "memory.kernel_stack": ("container_memory_kernel_stack_bytes", "gauge"),
    "memory.slab": ("container_memory_slab_bytes", "gauge"),
    "memory.sock": ("container_memory_sock_bytes", "gauge"),
    "memory.shmem": ("container_memory_shmem_bytes", "gauge"),
    "memory.file_mapped": ("container_memory_file_mapped_bytes", "gauge"),
    "memory.file_dirty": ("container_memory_file_dirty_bytes", "gauge"),
    "memory.inactive_anon": ("container_memory_inactive_anon_bytes", "gauge"),
    "memory.active_anon": ("container_memory_active_anon_bytes", "gauge"),
    "memory.inactive_file": ("container_memory_inactive_file_bytes", "gauge"),
    "memory.active_file": ("container_memory_active_file_bytes", "gauge"),
    "memory.pgfault": ("container_memory_pgfault_bytes", "gauge"),
    "memory.pgmajfault": ("container_memory_pgmajfault_bytes", "gauge"),
    "memory_events.oom": ("container_memory_oom_total", "counter"),
    "pids.current": ("container_pids_current", "gauge"),
    "pids.limit": ("container_pids_limit", "gauge"),
}
"""Field of the message: name and kind."""
_BLKIO: Final = {
    "io_service_bytes_recursive": "container_blkio_io_service_bytes_recursive_bytes",
    "io_serviced_recursive": "container_blkio_io_serviced_recursive_total",
}


def routes(engine: Engine, calls: CallMetrics) -> Mapping[str, Route]:
    """Return what the metrics address answers."""

    async def answer() -> Answer:
        families = [*_process(engine), *calls.families(), *await _containers(engine)]
        return Answer(render(families), CONTENT_TYPE)

    return {"/v1/metrics": answer, "/metrics": answer}


def _process(engine: Engine) -> Iterator[Family]:
    build = Family("containerd_build_info_total", "counter", "containerd build information")
    build.add(1, {"revision": "sampan", "version": __version__})
    yield build
    usage = resource.getrusage(resource.RUSAGE_SELF)
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = Path("/proc/self/statm").read_text(encoding="ascii").split()
    stat = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    booted = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()
        if line.startswith("btime ")
    )
    started_s = booted + int(stat[19]) / os.sysconf("SC_CLK_TCK")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for name, kind, value, text in (
        ("process_cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime, "CPU time."),
        ("process_resident_memory_bytes", "gauge", int(sizes[1]) * page, "Resident memory."),
        ("process_virtual_memory_bytes", "gauge", int(sizes[0]) * page, "Virtual memory."),
        ("process_open_fds", "gauge", len(os.listdir("/proc/self/fd")) - 1, "Open fds."),
        ("process_max_fds", "gauge", limit, "Most open fds."),
        ("process_start_time_seconds", "gauge", started_s, "Start, since the epoch."),
        ("process_threads", "gauge", int(stat[17]), "Threads."),
        ("sampan_event_subscribers", "gauge", engine.events.subscribers, "Who hears events."),
        ("sampan_events_total", "counter", engine.events.published, "Events published."),
    ):
        family = Family(name, kind, text)
        family.add(value)
        yield family


async def _containers(engine: Engine) -> list[Family]:
    gate = asyncio.Semaphore(_AT_ONCE)
    families: dict[str, Family] = {}

    async def one(namespace: str, state: ProcessState) -> None:
        try:
            async with gate, asyncio.timeout(_SCRAPE_S):
                with context.scope(namespace):
                    stats = await engine.tasks.stats(state.id)
        except (SampanError, TimeoutError):
            return
        labels = {"container_id": state.id, "namespace": namespace}
        for name, kind, extra, value in container_samples(stats.type_url, stats.value):
            family = families.setdefault(name, Family(name, kind, name.replace("_", " ")))
            family.add(value, {**labels, **extra})

    async with asyncio.TaskGroup() as group:
        for found in await engine.metadata.namespaces.list():
            with context.scope(found.name):
                states = await engine.tasks.list()
            for state in states:
                if state.status in (Status.RUNNING, Status.PAUSED):
                    group.create_task(one(found.name, state))
    return list(families.values())


def container_samples(
    type_url: str, value: bytes
) -> Iterator[tuple[str, str, dict[str, str], float]]:
    """Yield name, kind, labels and value of what a task's encoded stats say."""
    if type_url.endswith("cgroups.v1.Metrics"):
        found = cgroups1.Metrics.decode(value)
        yield from _flat(found, _V1)
        usage = found.cpu.usage if found.cpu else None
        for number, used in enumerate(usage.per_cpu if usage else ()):
            yield "container_per_cpu_nanoseconds", "counter", {"cpu": str(number)}, used
        for field, name in _BLKIO.items():
            for entry in getattr(found.blkio, field, ()):
                yield name, "counter", _device(entry), entry.value
    elif type_url.endswith("cgroups.v2.Metrics"):
        second = cgroups2.Metrics.decode(value)
        yield from _flat(second, _V2)
        for entry in second.io.usage if second.io else ():
            labels = {"major": str(entry.major), "minor": str(entry.minor)}
            yield "container_io_rbytes_bytes", "counter", labels, entry.rbytes
            yield "container_io_wbytes_bytes", "counter", labels, entry.wbytes


def _flat(
    message: Message, table: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str, dict[str, str], float]]:
    for path, (name, kind) in table.items():
        value: Any = message
        for step in path.split("."):
            value = getattr(value, step, None)
        if value is not None:
            yield name, kind, {}, float(value)


def _device(entry: cgroups1.BlkIOEntry) -> dict[str, str]:
    return {
        "device": entry.device,
        "major": str(entry.major),
        "minor": str(entry.minor),
        "op": entry.op,
    }
