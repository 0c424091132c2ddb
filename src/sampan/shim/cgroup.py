"""What the shim reads from its containers' cgroups: members and metrics."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sampan.errors import NotFound
from sampan.rpc.messages import cgroups1 as v1
from sampan.rpc.messages import cgroups2 as v2

__all__ = ["metrics", "paths", "pids"]

_ROOT = "/sys/fs/cgroup"
_MAX = (1 << 64) - 1


def paths(pid: int) -> dict[str, str]:
    """Return the folder of each v1 controller that `pid` is in; that of cgroup2 under "".

    Raises:
      NotFound: there is no such process.
    """
    found: dict[str, str] = {}
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = file.read().splitlines()
    except OSError as err:
        raise NotFound(f"cgroup of process {pid}: not found") from err
    unified = _ROOT if os.path.exists(f"{_ROOT}/cgroup.controllers") else f"{_ROOT}/unified"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found[""] = unified + path.rstrip("/")
            continue
        for controller in controllers.split(","):
            name = controller.removeprefix("name=")
            folder = f"{_ROOT}/{controllers}"
            if not os.path.isdir(folder):
                folder = f"{_ROOT}/{name}"
            found[name] = folder + path.rstrip("/")
    return found


def pids(init: int) -> list[int]:
    """Return the processes in the cgroup of `init` and below, in ascending order."""
    where = paths(init)
    folder = next((where[name] for name in ("pids", "freezer", "systemd", "") if name in where), "")
    found: set[int] = set()
    for below, _, _ in os.walk(folder):
        found.update(int(line) for line in _read(f"{below}/cgroup.procs").split())
    return sorted(found)


def metrics(init: int) -> v1.Metrics | v2.Metrics:
    """Return containerd's Metrics, of v1 where any controller of it is, else of v2."""
    where = paths(init)
    return (
        _metrics2(where[""]) if "memory" not in where and "pids" not in where else _metrics1(where)
    )


def _read(path: str) -> str:
    """Return a file's text; empty when the kernel does not have it."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _read(path).strip()
    return _MAX if text == "max" else int(text) if text.isdigit() else 0


def _pairs(path: str) -> dict[str, int]:
    return dict(_rows(path))


def _rows(path: str) -> Iterator[tuple[str, int]]:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            yield key, int(value)


_HZ_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

# Source: Documentation/admin-guide/cgroup-v1/memory.rst; containerd's names on the right.
_MEMORY1 = {
    "pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}  # fmt: skip


def _entry(folder: str, name: str) -> v1.MemoryEntry:
    stem = f"{folder}/memory.{name}"
    return v1.MemoryEntry(
        limit=_number(f"{stem}limit_in_bytes"),
        usage=_number(f"{stem}usage_in_bytes"),
        max=_number(f"{stem}max_usage_in_bytes"),
        failcnt=_number(f"{stem}failcnt"),
    )


def _metrics1(where: dict[str, str]) -> v1.Metrics:
    made = v1.Metrics()
    if folder := where.get("pids"):
        limit = _number(f"{folder}/pids.max")
        made.pids = v1.PidsStat(
            current=_number(f"{folder}/pids.current"), limit=0 if limit == _MAX else limit
        )
    if folder := where.get("cpuacct"):
        stat = _pairs(f"{folder}/cpuacct.stat")
        per_cpu = [int(each) for each in _read(f"{folder}/cpuacct.usage_percpu").split()]
        usage = v1.CPUUsage(
            total=_number(f"{folder}/cpuacct.usage"),
            user=stat.get("user", 0) * _HZ_NS,
            kernel=stat.get("system", 0) * _HZ_NS,
            per_cpu=per_cpu,
        )
        throttled = _pairs(f"{where.get('cpu', folder)}/cpu.stat")
        made.cpu = v1.CPUStat(
            usage=usage,
            throttling=v1.Throttle(
                periods=throttled.get("nr_periods", 0),
                throttled_periods=throttled.get("nr_throttled", 0),
                throttled_time=throttled.get("throttled_time", 0),
            ),
        )
    if folder := where.get("memory"):
        made.memory = _memory1(folder)
        control = _pairs(f"{folder}/memory.oom_control")
        made.memory_oom_control = v1.MemoryOomControl(
            oom_kill_disable=control.get("oom_kill_disable", 0),
            under_oom=control.get("under_oom", 0),
            oom_kill=control.get("oom_kill", 0),
        )
    if folder := where.get("blkio"):
        made.blkio = v1.BlkIOStat(
            io_service_bytes_recursive=_blkio(f"{folder}/blkio.throttle.io_service_bytes"),
            io_serviced_recursive=_blkio(f"{folder}/blkio.throttle.io_serviced"),
        )
    return made


def _memory1(folder: str) -> v1.MemoryStat:
    made = v1.MemoryStat(
        usage=_entry(folder, ""),
        swap=_entry(folder, "memsw."),
        kernel=_entry(folder, "kmem."),
        kernel_tcp=_entry(folder, "kmem.tcp."),
    )
    for key, value in _rows(f"{folder}/memory.stat"):
        bare = key.removeprefix("total_")
        name = key[: len(key) - len(bare)] + _MEMORY1.get(bare, bare)
        # `swap` is a counter to the kernel and a message to containerd.
        if isinstance(getattr(made, name, None), int):
            setattr(made, name, value)
    return made


def _blkio(path: str) -> list[v1.BlkIOEntry]:
    found = []
    for line in _read(path).splitlines():
        words = line.split()
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            found.append(
                v1.BlkIOEntry(op=words[1], major=int(major), minor=int(minor), value=int(words[2]))
            )
    return found


def _metrics2(folder: str) -> v2.Metrics:
    limit = _number(f"{folder}/pids.max")
    made = v2.Metrics(
        pids=v2.PidsStat(
            current=_number(f"{folder}/pids.current"), limit=0 if limit == _MAX else limit
        ),
        cpu=v2.CPUStat(),
        memory=v2.MemoryStat(
            usage=_number(f"{folder}/memory.current"),
            usage_limit=_number(f"{folder}/memory.max"),
            max_usage=_number(f"{folder}/memory.peak"),
            swap_usage=_number(f"{folder}/memory.swap.current"),
            swap_limit=_number(f"{folder}/memory.swap.max"),
        ),
        memory_events=v2.MemoryEvents(),
        io=v2.IOStat(),
    )
    for part, file in (
        (made.cpu, "cpu.stat"), (made.memory, "memory.stat"), (made.memory_events, "memory.events")
    ):  # fmt: skip
        for key, value in _rows(f"{folder}/{file}"):
            if isinstance(getattr(part, key, None), int):
                setattr(part, key, value)
    for line in _read(f"{folder}/io.stat").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        entry = v2.IOEntry(major=int(major), minor=int(minor))
        for pair in pairs:
            key, _, text = pair.partition("=")
            if isinstance(getattr(entry, key, None), int) and text.isdigit():
                setattr(entry, key, int(text))
        assert made.io is not None  # noqa: S101
        made.io.usage.append(entry)
    return made
