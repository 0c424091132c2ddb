"""memory of v1: limits in bytes. Source: cgroup-v1/memory.rst."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup
from sampan.errors import FailedPrecondition, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "memory"

_LIMIT = "memory.limit_in_bytes"
_SWAP = "memory.memsw.limit_in_bytes"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set limit, swap, reservation, swappiness, kernel TCP memory, and the OOM killer."""
    memory = resources.memory
    if memory is None:
        return
    limit, swap = memory.limit, memory.swap
    if limit == -1 and swap is None and cgroup.has(_SWAP):
        # Without a limit on memory, one on the sum would be all that is left of it.
        swap = -1
    if limit and limit > 0 and memory.check_before_update:
        usage = cgroup.number("memory.usage_in_bytes") or 0
        if usage > limit:
            raise FailedPrecondition(
                f"memory limit {limit} is below the {usage} bytes in use: {cgroup.path}"
            )
    _apply_limits(cgroup, limit, swap)
    if memory.reservation:
        cgroup.write("memory.soft_limit_in_bytes", memory.reservation)
    if memory.kernel_tcp:
        cgroup.write("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp)
    if memory.disable_oom_killer:
        cgroup.write("memory.oom_control", 1)
    if memory.swappiness is not None:
        if not 0 <= memory.swappiness <= 100:
            raise InvalidArgument(f"swappiness {memory.swappiness}: must be from 0 to 100")
        cgroup.write("memory.swappiness", memory.swappiness)


def _apply_limits(cgroup: Cgroup, limit: int | None, swap: int | None) -> None:
    """Set both limits in the order in which memory never exceeds memory and swap."""
    if limit and swap:
        current = cgroup.number(_LIMIT) or 0
        current_sum = cgroup.number(_SWAP) or 0
        # Raising: the sum first. Lowering: memory first.
        if swap == -1 or (limit > 0 and current_sum < limit) or current > swap > current_sum:
            cgroup.write(_SWAP, swap)
            _write_limit(cgroup, limit)
        else:
            _write_limit(cgroup, limit)
            cgroup.write(_SWAP, swap)
    elif limit:
        _write_limit(cgroup, limit)
    elif swap:
        cgroup.write(_SWAP, swap)


def _write_limit(cgroup: Cgroup, limit: int) -> None:
    try:
        cgroup.write(_LIMIT, limit)
    except FailedPrecondition as error:
        usage = cgroup.number("memory.usage_in_bytes")
        peak = cgroup.number("memory.max_usage_in_bytes")
        raise FailedPrecondition(
            f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
        ) from error


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `memory` and `memory_stat`, and `swap` where it is counted; bytes."""
    found = {
        "memory": {
            "usage": cgroup.number("memory.usage_in_bytes") or 0,
            "max_usage": cgroup.number("memory.max_usage_in_bytes") or 0,
            "limit": cgroup.number(_LIMIT) or 0,
            "failcnt": cgroup.number("memory.failcnt") or 0,
            "oom_kill": cgroup.flat("memory.oom_control").get("oom_kill", 0),
        },
        "memory_stat": cgroup.flat("memory.stat"),
    }
    both = cgroup.number("memory.memsw.usage_in_bytes")
    if both is not None:
        found["swap"] = {"usage": both, "limit": cgroup.number(_SWAP) or 0}
    kernel = cgroup.number("memory.kmem.usage_in_bytes")
    if kernel is not None:
        found["kernel"] = {"usage": kernel}
    return found
