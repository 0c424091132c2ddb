"""pids: how many tasks."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "pids"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set the limit: -1 is none, and 0 is 1, since a cgroup without tasks could not start."""
    if resources.pids is None or resources.pids.limit is None:
        return
    limit = resources.pids.limit
    cgroup.write("pids.max", "max" if limit < 0 else max(limit, 1))


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `pids`: current, limit."""
    return {
        "pids": {
            "current": cgroup.number("pids.current") or 0,
            "limit": cgroup.number("pids.max") or 0,
        }
    }
