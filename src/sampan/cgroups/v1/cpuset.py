"""cpuset of v1: which CPUs and memory nodes; a new one has none, and takes no process."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "inherit", "stats"]

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


def inherit(cgroup: Cgroup, root: str) -> None:
    """Copy cpus and mems from the parents where they are empty, from the top down to `cgroup`."""
    missing = [name for name in ("cpuset.cpus", "cpuset.mems") if not cgroup.read(name)]
    if not missing or cgroup.path == root:
        return
    parent = Cgroup(cgroup.path.rpartition("/")[0])
    inherit(parent, root)
    for name in missing:
        cgroup.write(name, parent.read(name))


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return nothing: it counts nothing."""
    return {}
