"""net_prio of v1: a priority for each interface."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "net_prio"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set the priorities."""
    if resources.network is not None:
        for interface in resources.network.priorities:
            cgroup.write("net_prio.ifpriomap", f"{interface.name} {interface.priority}")


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return nothing: it counts nothing."""
    return {}
