"""cpu of v2: weight and bandwidth."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats", "weight_of_shares"]

CONTROLLER = "cpu"


def weight_of_shares(shares: int) -> int:
    """Return the v2 weight (1 to 10000) for v1 shares (2 to 262144), 1024 becoming 39.

    The linear map of Kubernetes' KEP-2254, which containerd's and older runc's users expect.
    """
    if shares == 0:
        return 0
    bounded = min(max(shares, 2), 262144)
    return 1 + (bounded - 2) * 9999 // 262142


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set idle, weight, quota and period, burst."""
    cpu = resources.cpu
    if cpu is None:
        return
    if cpu.idle is not None:
        cgroup.write("cpu.idle", cpu.idle)
    # An idle cgroup has the least weight, and refuses another.
    if cpu.shares and not cpu.idle:
        cgroup.write("cpu.weight", weight_of_shares(cpu.shares))
    if cpu.quota or cpu.period:
        former = (cgroup.optional("cpu.max") or "max 100000").split()
        quota = former[0] if not cpu.quota else "max" if cpu.quota < 0 else str(cpu.quota)
        if cpu.burst is not None and quota != "max":
            burst = cgroup.number("cpu.max.burst") or 0
            if burst > int(quota):
                cgroup.write("cpu.max.burst", 0)
        cgroup.write("cpu.max", f"{quota} {cpu.period or former[1]}")
    if cpu.burst is not None:
        cgroup.write("cpu.max.burst", cpu.burst)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `cpu`: usage_ns, user_ns, system_ns, periods, throttled_periods, throttled_time_ns."""
    flat = cgroup.flat("cpu.stat")
    return {
        "cpu": {
            "usage_ns": flat.get("usage_usec", 0) * 1000,
            "user_ns": flat.get("user_usec", 0) * 1000,
            "system_ns": flat.get("system_usec", 0) * 1000,
            "periods": flat.get("nr_periods", 0),
            "throttled_periods": flat.get("nr_throttled", 0),
            "throttled_time_ns": flat.get("throttled_usec", 0) * 1000,
        }
    }
