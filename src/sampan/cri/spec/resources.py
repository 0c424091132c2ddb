"""Resources: CRI's figures as config.json has them, for a new container and for an update."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument
from sampan.model.runtime.resources import CPU, DeviceRule, HugepageLimit, Memory, Resources

__all__ = ["merged", "resources_of", "swap_is_limited"]


def resources_of(
    wanted: pb.LinuxContainerResources, *, hugepages: bool, rules: tuple[DeviceRule, ...] = ()
) -> Resources:
    """Return the limits of a container; 0 and empty leave the kernel's default.

    Args:
      wanted: The request's.
      hugepages: Whether limits on huge pages are set; some nodes lack the controller.
      rules: For devices.

    Raises:
      InvalidArgument: memory without swap exceeds memory with it, or a negative number.
    """
    limit, swap = wanted.memory_limit_in_bytes, wanted.memory_swap_limit_in_bytes
    if wanted.cpu_shares < 0 or wanted.cpu_period < 0:
        raise InvalidArgument("cpu shares and period cannot be negative")
    if limit > 0 and 0 < swap < limit:
        raise InvalidArgument(f"memory and swap together ({swap}) are less than memory ({limit})")
    cpu = CPU(
        shares=wanted.cpu_shares or None,
        quota=wanted.cpu_quota or None,
        period=wanted.cpu_period or None,
        cpus=wanted.cpuset_cpus,
        mems=wanted.cpuset_mems,
    )
    if not swap_is_limited():
        swap = 0
    memory = Memory(limit=limit or None, swap=swap or None) if limit or swap else None
    pages: tuple[HugepageLimit, ...] = ()
    if hugepages:
        pages = tuple(
            HugepageLimit(page_size=one.page_size, limit=one.limit)
            for one in wanted.hugepage_limits
        )
    return Resources(
        cpu=None if cpu == CPU() else cpu,
        memory=memory,
        hugepage_limits=pages,
        unified=dict(wanted.unified) or None,
        devices=rules,
    )


def merged(
    old: pb.LinuxContainerResources, new: pb.LinuxContainerResources
) -> pb.LinuxContainerResources:
    """Return what holds after an update: what it names, and the rest as before."""
    result = pb.LinuxContainerResources()
    result.CopyFrom(old)
    for field, value in new.ListFields():
        if field.name in ("hugepage_limits", "unified"):
            continue
        setattr(result, field.name, value)
    if new.hugepage_limits:
        del result.hugepage_limits[:]
        result.hugepage_limits.extend(new.hugepage_limits)
    result.unified.update(new.unified)
    return result


@cache
def swap_is_limited() -> bool:
    """Tell whether the kernel accounts swap."""
    v1 = Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
    if v1.parent.exists():
        return v1.exists()
    return any(Path("/sys/fs/cgroup").glob("*/memory.swap.max"))
