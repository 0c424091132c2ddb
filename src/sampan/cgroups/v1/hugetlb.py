"""hugetlb of v1: huge pages by size."""

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
        cgroup.write(f"hugetlb.{page.page_size}.limit_in_bytes", page.limit)
        reserved = f"hugetlb.{page.page_size}.rsvd.limit_in_bytes"
        if cgroup.has(reserved):
            cgroup.write(reserved, page.limit)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return `hugetlb.SIZE`: usage, max_usage, failcnt; bytes."""
    found = {}
    for name in os.listdir(cgroup.path):
        if name.startswith("hugetlb.") and name.endswith(".limit_in_bytes") and "rsvd" not in name:
            prefix = name.removesuffix(".limit_in_bytes")
            found[prefix] = {
                "usage": cgroup.number(f"{prefix}.usage_in_bytes") or 0,
                "max_usage": cgroup.number(f"{prefix}.max_usage_in_bytes") or 0,
                "failcnt": cgroup.number(f"{prefix}.failcnt") or 0,
            }
    return found
