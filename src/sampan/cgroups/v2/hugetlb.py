"""hugetlb of v2: huge pages by size."""

from __future__ import annotations

import os

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "hugetlb"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set the limit of each page size, and of reservations where the kernel counts them."""
    for page in resources.hugepage_limits:
        limit = "max" if page.limit < 0 else page.limit
        cgroup.write(f"hugetlb.{page.page_size}.max", limit)
        reserved = f"hugetlb.{page.page_size}.rsvd.max"
        if cgroup.has(reserved):
            cgroup.write(reserved, limit)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `hugetlb.SIZE`: usage, failcnt; bytes."""
    found = {}
    for name in os.listdir(cgroup.path):
        if name.startswith("hugetlb.") and name.endswith(".current") and "rsvd" not in name:
            prefix = name.removesuffix(".current")
            found[prefix] = {
                "usage": cgroup.number(name) or 0,
                "failcnt": cgroup.flat(f"{prefix}.events").get("max", 0),
            }
    return found
