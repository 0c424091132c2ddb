"""What `events` prints about a container's cgroups, in the shape that clients of runc parse.

Nanoseconds and bytes throughout, as there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["statistics"]

_CACHE_KEYS = ("cache", "file")
_BLKIO = {"io_bytes": "ioServiceBytesRecursive", "io_operations": "ioServicedRecursive"}


def statistics(counted: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Turn `cgroups.Manager.stats()` into `data` of an event of type stats."""
    cpu = counted.get("cpu", {})
    percpu = counted.get("percpu_ns", {})
    usage: dict[str, Any] = {"total": cpu.get("usage_ns", 0)}
    if percpu:
        usage["percpu"] = [percpu[name] for name in sorted(percpu, key=int)]
    usage["kernel"] = cpu.get("system_ns", 0)
    usage["user"] = cpu.get("user_ns", 0)
    throttling = {
        "periods": cpu.get("periods", 0),
        "throttledPeriods": cpu.get("throttled_periods", 0),
        "throttledTime": cpu.get("throttled_time_ns", 0),
    }
    pids = counted.get("pids", {})
    return {
        "cpu": {"usage": usage, "throttling": throttling},
        "cpuset": {},
        "memory": _memory(counted),
        "pids": {key: pids[key] for key in ("current", "limit") if pids.get(key)},
        "blkio": {_BLKIO[key]: _blkio(counted[key]) for key in _BLKIO if counted.get(key)},
        "hugetlb": _hugetlb(counted),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _memory(counted: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    raw = dict(counted.get("memory_stat", {}))
    document: dict[str, Any] = {
        "cache": next((raw[key] for key in _CACHE_KEYS if key in raw), 0),
    }
    for ours, theirs in (("memory", "usage"), ("swap", "swap"), ("kernel", "kernel")):
        values = counted.get(ours)
        if values:
            document[theirs] = {
                "limit": values.get("limit", 0),
                "usage": values.get("usage", 0),
                "max": values.get("max_usage", 0),
                "failcnt": values.get("failcnt", 0),
            }
    document["raw"] = raw
    return document


def _blkio(values: Mapping[str, int]) -> list[dict[str, object]]:
    """Each key is `MAJOR:MINOR OPERATION`; lines of another form are left out."""
    entries: list[dict[str, object]] = []
    for key, value in values.items():
        device, _, operation = key.partition(" ")
        major, colon, minor = device.partition(":")
        if colon and major.isdigit() and minor.isdigit():
            numbers = {"major": int(major), "minor": int(minor)}
            entries.append({**numbers, "op": operation, "value": value})
    return entries


def _hugetlb(counted: Mapping[str, Mapping[str, int]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for section, values in counted.items():
        if section.startswith("hugetlb."):
            found[section.removeprefix("hugetlb.")] = {
                "usage": values.get("usage", 0),
                "max": values.get("max_usage", 0),
                "failcnt": values.get("failcnt", 0),
            }
    return found
