"""rdma: handles and objects of each adapter."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "rdma"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set the limits of each adapter."""
    for adapter, limit in (resources.rdma or {}).items():
        words = [adapter]
        if limit.hca_handles is not None:
            words.append(f"hca_handle={limit.hca_handles}")
        if limit.hca_objects is not None:
            words.append(f"hca_object={limit.hca_objects}")
        cgroup.write("rdma.max", " ".join(words))


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `rdma.ADAPTER`: hca_handle, hca_object in use."""
    found = {}
    for line in (cgroup.optional("rdma.current") or "").splitlines():
        adapter, *pairs = line.split()
        found[f"rdma.{adapter}"] = {
            key: int(value) for key, _, value in (pair.partition("=") for pair in pairs)
        }
    return found
