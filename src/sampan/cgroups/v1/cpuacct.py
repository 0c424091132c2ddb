"""cpuacct of v1: time used, in nanoseconds."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "cpuacct"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Do nothing: it only counts."""


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `cpu`: usage_ns, user_ns, system_ns; and `percpu_ns` by number of the CPU."""
    per_cpu = (cgroup.optional("cpuacct.usage_percpu") or "").split()
    return {
        "cpu": {
            "usage_ns": cgroup.number("cpuacct.usage") or 0,
            "user_ns": cgroup.number("cpuacct.usage_user") or 0,
            "system_ns": cgroup.number("cpuacct.usage_sys") or 0,
        },
        "percpu_ns": {str(number): int(value) for number, value in enumerate(per_cpu)},
    }
