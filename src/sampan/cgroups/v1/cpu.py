"""cpu of v1: shares, bandwidth, real-time. Source: scheduler/sched-bwc.rst."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "cpu"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set shares, quota, period, burst, idle and the real-time budget."""
    cpu = resources.cpu
    if cpu is None:
        return
    if cpu.idle is not None:
        cgroup.write("cpu.idle", cpu.idle)
    if cpu.shares:
        cgroup.write("cpu.shares", cpu.shares)
        actual = cgroup.number("cpu.shares")
        _check_shares(cpu.shares, actual)
    if cpu.realtime_period:
        cgroup.write("cpu.rt_period_us", cpu.realtime_period)
    if cpu.realtime_runtime:
        cgroup.write("cpu.rt_runtime_us", cpu.realtime_runtime)
    _apply_bandwidth(cgroup, cpu.period, cpu.quota, cpu.burst)


def _check_shares(wanted: int, actual: int | None) -> None:
    # The kernel bends what is out of range silently, and the caller should hear of it.
    if actual is not None and actual != wanted:
        bound = "minimum" if actual > wanted else "maximum"
        raise InvalidArgument(f"cpu.shares {wanted}: the {bound} allowed is {actual}")


def _apply_bandwidth(
    cgroup: Cgroup, period: int | None, quota: int | None, burst: int | None
) -> None:
    """Set period, quota and burst in an order in which no step is refused.

    Quota over period is checked against the parent's at each write, and burst against quota: a
    period that is refused is tried again once the quota has gone down.
    """
    if burst is not None and quota is not None and quota > 0:
        # The former burst may exceed the new quota.
        former = cgroup.number("cpu.cfs_burst_us") or 0
        if former > quota:
            cgroup.write("cpu.cfs_burst_us", 0)
    pending_period = False
    if period:
        try:
            cgroup.write("cpu.cfs_period_us", period)
        except InvalidArgument:
            if not quota:
                raise
            pending_period = True
    if quota:
        cgroup.write("cpu.cfs_quota_us", quota)
    if pending_period and period:
        cgroup.write("cpu.cfs_period_us", period)
    if burst is not None:
        cgroup.write("cpu.cfs_burst_us", burst)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `cpu`: periods, throttled_periods, throttled_time_ns."""
    flat = cgroup.flat("cpu.stat")
    return {
        "cpu": {
            "periods": flat.get("nr_periods", 0),
            "throttled_periods": flat.get("nr_throttled", 0),
            "throttled_time_ns": flat.get("throttled_time", 0),
        }
    }
