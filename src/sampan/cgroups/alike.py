"""Controllers whose files are the same in both versions: cpuset, pids, rdma."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["apply_cpuset", "apply_pids", "apply_rdma", "no_stats", "pids_stats", "rdma_stats"]


def apply_cpuset(cgroup: Cgroup, resources: Resources) -> None:
    """Set cpus and mems."""
    cpu = resources.cpu
    if cpu is None:
        return
    if cpu.cpus:
        cgroup.write("cpuset.cpus", cpu.cpus)
    if cpu.mems:
        cgroup.write("cpuset.mems", cpu.mems)


def apply_pids(cgroup: Cgroup, resources: Resources) -> None:
    """Set the limit: -1 is none, and 0 is 1, since a cgroup without tasks could not start."""
    if resources.pids is None or resources.pids.limit is None:
        return
    limit = resources.pids.limit
    cgroup.write("pids.max", "max" if limit < 0 else max(limit, 1))


def pids_stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `pids`: current, limit."""
    return {
        "pids": {
            "current": cgroup.number("pids.current") or 0,
            "limit": cgroup.number("pids.max") or 0,
        }
    }


def apply_rdma(cgroup: Cgroup, resources: Resources) -> None:
    """Set the limits of each adapter."""
    for adapter, limit in (resources.rdma or {}).items():
        words = [adapter]
        if limit.hca_handles is not None:
            words.append(f"hca_handle={limit.hca_handles}")
        if limit.hca_objects is not None:
            words.append(f"hca_object={limit.hca_objects}")
        cgroup.write("rdma.max", " ".join(words))


def rdma_stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `rdma.ADAPTER`: hca_handle, hca_object in use."""
    found = {}
    for line in (cgroup.optional("rdma.current") or "").splitlines():
        adapter, *pairs = line.split()
        found[f"rdma.{adapter}"] = {
            key: int(value) for key, _, value in (pair.partition("=") for pair in pairs)
        }
    return found


def no_stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return nothing: the controller counts nothing."""
    return {}
