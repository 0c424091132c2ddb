"""cpuset of v2: which CPUs and memory nodes."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "cpuset"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set cpus and mems."""
    cpu = resources.cpu
    if cpu is None:
        return
    if cpu.cpus:
        cgroup.write("cpuset.cpus", cpu.cpus)
    if cpu.mems:
        cgroup.write("cpuset.mems", cpu.mems)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return nothing: it counts nothing."""
    return {}
