"""net_cls of v1: a class id on every packet."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "net_cls"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set the class id."""
    if resources.network is not None and resources.network.class_id is not None:
        cgroup.write("net_cls.classid", resources.network.class_id)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return nothing: it counts nothing."""
    return {}
