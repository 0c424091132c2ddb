"""cpuset of v1: which CPUs and memory nodes; a new one has none, and takes no process."""

from __future__ import annotations

from sampan.cgroups.alike import apply_cpuset, no_stats
from sampan.cgroups.files import Cgroup

__all__ = ["CONTROLLER", "apply", "inherit", "stats"]

CONTROLLER = "cpuset"


apply = apply_cpuset
stats = no_stats


def inherit(cgroup: Cgroup, root: str) -> None:
    """Copy cpus and mems from the parents where they are empty, from the top down to `cgroup`."""
    missing = [name for name in ("cpuset.cpus", "cpuset.mems") if not cgroup.read(name)]
    if not missing or cgroup.path == root:
        return
    parent = Cgroup(cgroup.path.rpartition("/")[0])
    inherit(parent, root)
    for name in missing:
        cgroup.write(name, parent.read(name))
