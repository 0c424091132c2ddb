"""io of v2: weights and throttles of block devices."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "io"

_THROTTLES = {
    "throttle_read_bps_device": "rbps",
    "throttle_write_bps_device": "wbps",
    "throttle_read_iops_device": "riops",
    "throttle_write_iops_device": "wiops",
}


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set weights, of BFQ where it is there, and throttles."""
    block = resources.block_io
    if block is None:
        return
    bfq = cgroup.has("io.bfq.weight")
    if block.weight:
        if bfq:
            cgroup.write("io.bfq.weight", block.weight)
        else:
            # BFQ's 10 to 1000 onto 1 to 10000.
            cgroup.write("io.weight", 1 + (block.weight - 10) * 9999 // 990)
    for device in block.weight_device:
        if device.weight:
            name = "io.bfq.weight" if bfq else "io.weight"
            cgroup.write(name, f"{device.major}:{device.minor} {device.weight}")
    for field, key in _THROTTLES.items():
        for throttle in getattr(block, field):
            rate = throttle.rate or "max"
            cgroup.write("io.max", f"{throttle.major}:{throttle.minor} {key}={rate}")


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `io_bytes` and `io_operations`, keyed `major:minor operation` as on v1."""
    names = {"rbytes": "Read", "wbytes": "Write", "dbytes": "Discard"}
    operations = {"rios": "Read", "wios": "Write", "dios": "Discard"}
    in_bytes: dict[str, int] = {}
    in_operations: dict[str, int] = {}
    for line in (cgroup.optional("io.stat") or "").splitlines():
        device, *pairs = line.split()
        for key, _, value in (pair.partition("=") for pair in pairs):
            if key in names:
                in_bytes[f"{device} {names[key]}"] = int(value)
            elif key in operations:
                in_operations[f"{device} {operations[key]}"] = int(value)
    return {"io_bytes": in_bytes, "io_operations": in_operations}
