"""blkio of v1: weights and throttles of block devices. Source: cgroup-v1/blkio-controller.rst."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "blkio"

_THROTTLES = {
    "throttle_read_bps_device": "blkio.throttle.read_bps_device",
    "throttle_write_bps_device": "blkio.throttle.write_bps_device",
    "throttle_read_iops_device": "blkio.throttle.read_iops_device",
    "throttle_write_iops_device": "blkio.throttle.write_iops_device",
}


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set weights, of the whole and of devices, and throttles."""
    blkio = resources.block_io
    if blkio is None:
        return
    prefix = "blkio.bfq" if cgroup.has("blkio.bfq.weight") else "blkio"
    if blkio.weight:
        cgroup.write(f"{prefix}.weight", blkio.weight)
    if blkio.leaf_weight:
        cgroup.write("blkio.leaf_weight", blkio.leaf_weight)
    for device in blkio.weight_device:
        where = f"{device.major}:{device.minor}"
        if device.weight:
            cgroup.write(f"{prefix}.weight_device", f"{where} {device.weight}")
        if device.leaf_weight:
            cgroup.write("blkio.leaf_weight_device", f"{where} {device.leaf_weight}")
    for field, name in _THROTTLES.items():
        for throttle in getattr(blkio, field):
            cgroup.write(name, f"{throttle.major}:{throttle.minor} {throttle.rate}")


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `io_bytes` and `io_operations`, keyed `major:minor operation`."""
    found = {}
    for section, name in (("io_bytes", "service_bytes"), ("io_operations", "serviced")):
        lines = cgroup.flat(f"blkio.throttle.io_{name}_recursive")
        found[section] = {key: value for key, value in lines.items() if ":" in key}
    return found
