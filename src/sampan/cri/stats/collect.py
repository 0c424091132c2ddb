"""Reading a cgroup, its processes and a file system: blocking, milliseconds; from a thread.

What is read differs between cgroup versions, what comes out does not: `Figures`. On a hybrid host
the controllers are v1, and pressure comes from the v2 tree beside them.

Source: kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst, accounting/psi.rst.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sampan.cgroups import Layout, Manager, detect

__all__ = [
    "Descriptors",
    "Figures",
    "FileSystem",
    "Pressure",
    "cgroup_folder",
    "collect",
    "descriptors",
    "figures",
    "file_system",
    "parse_pressure",
    "soft_limits",
    "total",
]

UNLIMITED = 1 << 62
"""Limits at least this high are none: v1 says about 2**63 rounded to a page."""

Raw = Mapping[str, Mapping[str, int]]


class Stall(NamedTuple):
    """One line of a pressure file."""

    avg10: float
    avg60: float
    avg300: float
    total_ns: int


class Pressure(NamedTuple):
    """Time in which some, or all, tasks waited for a resource."""

    some: Stall | None
    full: Stall | None


class Figures(NamedTuple):
    """What a cgroup has used. None where the host does not say; limits are None for none, too."""

    timestamp_ns: int
    cpu_ns: int | None = None
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_ns: int = 0
    memory_bytes: int | None = None
    memory_limit: int | None = None
    memory_peak: int = 0
    memory_failures: int = 0
    working_set_bytes: int = 0
    rss_bytes: int = 0
    cache_bytes: int = 0
    kernel_bytes: int = 0
    mapped_file_bytes: int = 0
    active_file_bytes: int = 0
    inactive_file_bytes: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    oom_kills: int = 0
    swap_bytes: int | None = None
    swap_limit: int | None = None
    threads: int | None = None
    threads_limit: int | None = None
    io_bytes: Mapping[str, int] = {}
    """`major:minor operation` to count."""
    io_operations: Mapping[str, int] = {}
    pids: tuple[int, ...] = ()
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


class FileSystem(NamedTuple):
    """statfs of a path."""

    size_bytes: int
    available_bytes: int
    inodes: int
    inodes_free: int


class Descriptors(NamedTuple):
    """Open files of some processes."""

    files: int
    sockets: int


def cgroup_folder(path: str) -> str:
    """Return the folder below a hierarchy's root for a cgroupsPath of either driver.

    `parent.slice:prefix:name`, systemd's form, is `/parent.slice/prefix-name.scope`, where a slice
    `a-b.slice` lies in `a.slice`.
    """
    parts = path.split(":")
    if len(parts) != 3:
        return path
    slice_name, prefix, name = parts
    stem = slice_name.removesuffix(".slice")
    words = [] if stem in {"", "-"} else stem.split("-")
    folders = ["-".join(words[: count + 1]) + ".slice" for count in range(len(words))]
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else name
    return "/" + "/".join([*folders, unit])


def collect(cgroup: str) -> Figures | None:
    """Read the cgroup of a container or pod; None when there is none (any more)."""
    manager = Manager(cgroup_folder(cgroup))
    if not manager.exists():
        return None
    layout = detect()
    now = time.time_ns()
    unified = manager.paths.get("") or ""
    return figures(
        manager.stats(),
        now,
        unified_memory=layout.mode == "v2",
        pids=tuple(_pids(_counting_folder(manager, layout))),
        pressure={name: _read_pressure(unified, name) for name in ("cpu", "memory", "io")},
    )


def _counting_folder(manager: Manager, layout: Layout) -> str:
    """Return the folder in whose tree every process stands."""
    name = "" if layout.mode == "v2" else "pids" if "pids" in manager.paths else "memory"
    return manager.paths.get(name) or next(iter(manager.paths.values()))


def _pids(folder: str) -> Iterator[int]:
    for path, _, _ in os.walk(folder):
        try:
            with open(os.path.join(path, "cgroup.procs"), "rb") as file:
                yield from map(int, file.read().split())
        except OSError:
            continue  # it went away, or is a threaded cgroup, whose processes stand above


def _read_pressure(folder: str, resource: str) -> Pressure | None:
    if not folder:
        return None
    try:
        with open(f"{folder}/{resource}.pressure") as file:
            return parse_pressure(file.read())
    except OSError:
        return None  # no PSI in this kernel, switched off, or no such cgroup in this tree


def parse_pressure(text: str) -> Pressure:
    """Return what a pressure file says; microseconds become nanoseconds."""
    found: dict[str, Stall] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.partition("=")[::2] for pair in pairs)
        found[kind] = Stall(
            float(values.get("avg10", 0)),
            float(values.get("avg60", 0)),
            float(values.get("avg300", 0)),
            int(values.get("total", 0)) * 1000,
        )
    return Pressure(found.get("some"), found.get("full"))


def figures(
    raw: Raw,
    timestamp_ns: int,
    *,
    unified_memory: bool,
    pids: tuple[int, ...] = (),
    pressure: Mapping[str, Pressure | None] | None = None,
) -> Figures:
    """Bring what `cgroups.Manager.stats` says, of either version, into one form."""
    cpu = raw.get("cpu", {})
    threads = raw.get("pids", {})
    pressure = pressure or {}
    made = Figures(
        timestamp_ns,
        cpu_ns=cpu.get("usage_ns"),
        cpu_user_ns=cpu.get("user_ns", 0),
        cpu_system_ns=cpu.get("system_ns", 0),
        cpu_periods=cpu.get("periods", 0),
        cpu_throttled_periods=cpu.get("throttled_periods", 0),
        cpu_throttled_ns=cpu.get("throttled_time_ns", 0),
        threads=threads.get("current"),
        threads_limit=_limit(threads.get("limit")),
        io_bytes=dict(raw.get("io_bytes", {})),
        io_operations=dict(raw.get("io_operations", {})),
        pids=pids,
        cpu_pressure=pressure.get("cpu"),
        memory_pressure=pressure.get("memory"),
        io_pressure=pressure.get("io"),
    )
    if "memory" not in raw:
        return made
    return _memory_v2(made, raw) if unified_memory else _memory_v1(made, raw)


def _memory(made: Figures, raw: Raw, inactive_file: int) -> Figures:
    memory = raw["memory"]
    usage = memory.get("usage", 0)
    return made._replace(
        memory_bytes=usage,
        memory_limit=_limit(memory.get("limit")),
        memory_peak=memory.get("max_usage", 0),
        memory_failures=memory.get("failcnt", 0),
        oom_kills=memory.get("oom_kill", 0),
        working_set_bytes=max(0, usage - inactive_file),
        inactive_file_bytes=inactive_file,
    )


def _memory_v1(made: Figures, raw: Raw) -> Figures:
    stat = raw.get("memory_stat", {})
    swap = raw.get("swap")
    made = _memory(made, raw, stat.get("total_inactive_file", 0))._replace(
        rss_bytes=stat.get("total_rss", 0),
        cache_bytes=stat.get("total_cache", 0),
        kernel_bytes=raw.get("kernel", {}).get("usage", 0),
        mapped_file_bytes=stat.get("total_mapped_file", 0),
        active_file_bytes=stat.get("total_active_file", 0),
        page_faults=stat.get("total_pgfault", 0),
        major_page_faults=stat.get("total_pgmajfault", 0),
    )
    if swap is None:
        return made
    # v1 limits memory and swap together; what swap alone may take is the difference.
    both = _limit(swap.get("limit"))
    alone = None if both is None or made.memory_limit is None else both - made.memory_limit
    used = stat.get("total_swap", max(0, swap.get("usage", 0) - (made.memory_bytes or 0)))
    return made._replace(swap_bytes=used, swap_limit=alone)


def _memory_v2(made: Figures, raw: Raw) -> Figures:
    stat = raw.get("memory_stat", {})
    swap = raw.get("swap")
    kernel = stat.get("kernel")
    if kernel is None:  # before Linux 5.18
        kernel = sum(stat.get(key, 0) for key in ("kernel_stack", "pagetables", "slab", "sock"))
    made = _memory(made, raw, stat.get("inactive_file", 0))._replace(
        rss_bytes=stat.get("anon", 0),
        cache_bytes=stat.get("file", 0),
        kernel_bytes=kernel,
        mapped_file_bytes=stat.get("file_mapped", 0),
        active_file_bytes=stat.get("active_file", 0),
        page_faults=stat.get("pgfault", 0),
        major_page_faults=stat.get("pgmajfault", 0),
    )
    if swap is None:
        return made
    return made._replace(swap_bytes=swap.get("usage", 0), swap_limit=_limit(swap.get("limit")))


def _limit(value: int | None) -> int | None:
    return None if value is None or value < 0 or value >= UNLIMITED else value


def total(parts: list[Figures], timestamp_ns: int) -> Figures:
    """Return the sum of containers, for a pod without a cgroup of its own. Pressure has no sum."""
    sums: dict[str, int | None] = {}
    for name in Figures._fields:
        if name.endswith(("_limit", "_pressure", "_peak")) or name in {"timestamp_ns", "pids"}:
            continue
        values = [getattr(part, name) for part in parts]
        numbers = [value for value in values if isinstance(value, int)]
        if numbers:
            sums[name] = sum(numbers)
    pids = tuple(pid for part in parts for pid in part.pids)
    return Figures(timestamp_ns, pids=pids)._replace(**sums)  # type: ignore[arg-type]


def file_system(path: str) -> FileSystem | None:
    """Return size and space of the file system at `path`; None if there is no such path."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return FileSystem(
        found.f_blocks * found.f_frsize,
        found.f_bavail * found.f_frsize,
        found.f_files,
        found.f_ffree,
    )


def descriptors(pids: tuple[int, ...]) -> Descriptors:
    """Count the open files and sockets of processes; those that end meanwhile count nothing."""
    files = sockets = 0
    for pid in pids:
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                for entry in entries:
                    files += 1
                    try:
                        sockets += os.readlink(entry.path).startswith("socket:")
                    except OSError:
                        continue
        except OSError:
            continue
    return Descriptors(files, sockets)


_LIMITS = {
    "RLIMIT_CPU": "Max cpu time",
    "RLIMIT_FSIZE": "Max file size",
    "RLIMIT_DATA": "Max data size",
    "RLIMIT_STACK": "Max stack size",
    "RLIMIT_CORE": "Max core file size",
    "RLIMIT_RSS": "Max resident set",
    "RLIMIT_NPROC": "Max processes",
    "RLIMIT_NOFILE": "Max open files",
    "RLIMIT_MEMLOCK": "Max locked memory",
    "RLIMIT_AS": "Max address space",
    "RLIMIT_LOCKS": "Max file locks",
    "RLIMIT_SIGPENDING": "Max pending signals",
    "RLIMIT_MSGQUEUE": "Max msgqueue size",
    "RLIMIT_NICE": "Max nice priority",
    "RLIMIT_RTPRIO": "Max realtime priority",
    "RLIMIT_RTTIME": "Max realtime timeout",
}


def soft_limits(pid: int) -> dict[str, int]:
    """Return the soft limits of a process by the names of config.json; unlimited is 2**64-1."""
    try:
        with open(f"/proc/{pid}/limits") as file:
            text = file.read()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for name, title in _LIMITS.items():
        for line in text.splitlines():
            if line.startswith(title + " "):
                word = line[len(title) :].split()[0]
                found[name] = 2**64 - 1 if word == "unlimited" else int(word)
    return found
