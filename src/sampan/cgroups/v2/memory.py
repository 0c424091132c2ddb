"""memory of v2: bytes; swap is counted apart from memory here."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup
from sampan.errors import FailedPrecondition, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats", "swap_alone"]

CONTROLLER = "memory"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set max, swap.max and low."""
    memory = resources.memory
    if memory is None:
        return
    if memory.check_before_update and memory.limit and memory.limit > 0:
        usage = cgroup.number("memory.current") or 0
        if usage > memory.limit:
            raise FailedPrecondition(
                f"memory limit {memory.limit} is below the {usage} bytes in use: {cgroup.path}"
            )
    swap = swap_alone(memory.limit, memory.swap)
    if swap is not None and (swap != "0" or cgroup.has("memory.swap.max")):
        cgroup.write("memory.swap.max", swap)
    if memory.limit:
        cgroup.write("memory.max", "max" if memory.limit < 0 else memory.limit)
    if memory.reservation:
        cgroup.write("memory.low", "max" if memory.reservation < 0 else memory.reservation)


def swap_alone(limit: int | None, both: int | None) -> str | None:
    """Return memory.swap.max for v1's sum of memory and swap; None leaves it alone.

    Raises:
      InvalidArgument: The sum is below the limit on memory, or that is missing.
    """
    if limit == -1 and not both:
        return "max"
    if both == -1:
        return "max"
    if not both:
        return None
    if not limit:
        raise InvalidArgument(f"memory and swap {both}: needs a limit on memory, too")
    if limit == -1:
        raise InvalidArgument(f"memory and swap {both}: memory alone has no limit")
    if both < limit:
        raise InvalidArgument(f"memory and swap {both} is below memory {limit}")
    return str(both - limit)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `memory`, `memory_stat`, `memory_events`, and `swap` where it is counted; bytes."""
    events = cgroup.flat("memory.events")
    found = {
        "memory": {
            "usage": cgroup.number("memory.current") or 0,
            "max_usage": cgroup.number("memory.peak") or 0,
            "limit": cgroup.number("memory.max") or 0,
            "failcnt": events.get("max", 0),
            "oom_kill": events.get("oom_kill", 0),
        },
        "memory_stat": cgroup.flat("memory.stat"),
        "memory_events": events,
    }
    swap = cgroup.number("memory.swap.current")
    if swap is not None:
        found["swap"] = {"usage": swap, "limit": cgroup.number("memory.swap.max") or 0}
    return found
