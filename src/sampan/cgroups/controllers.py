"""The controllers by version: a folder each, a module a controller, loaded when first needed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from sampan.cgroups.files import Cgroup
    from sampan.model.runtime.resources import Resources

    class Controller(Protocol):
        """A module of `v1` or `v2`."""

        CONTROLLER: str
        """The kernel's name."""

        def apply(self, cgroup: Cgroup, resources: Resources) -> None:
            """Set what `resources` says about this controller, and nothing else."""

        def stats(self, cgroup: Cgroup) -> dict[str, dict[str, int]]:
            """Return what it knows: section to key to number."""


__all__ = ["V1", "V2", "load", "load_all"]

V1 = {
    "cpu": "cpu",
    "cpuacct": "cpuacct",
    "cpuset": "cpuset",
    "memory": "memory",
    "pids": "pids",
    "blkio": "blkio",
    "hugetlb": "hugetlb",
    "devices": "devices",
    "net_cls": "net_cls",
    "net_prio": "net_prio",
    "rdma": "rdma",
}
"""Kernel's name to module."""

V2 = {
    "cpu": "cpu",
    "cpuset": "cpuset",
    "memory": "memory",
    "pids": "pids",
    "io": "io",
    "hugetlb": "hugetlb",
    "rdma": "rdma",
}


def load(version: str, name: str) -> Controller:
    """Return a controller's module; `version` is `v1` or `v2`."""
    module = (V1 if version == "v1" else V2)[name]
    found: Controller = __import__(f"sampan.cgroups.{version}.{module}", fromlist=["apply"])
    return found


def load_all() -> None:
    """Load every controller, and what attaches device programs."""
    for name in V1:
        load("v1", name)
    for name in V2:
        load("v2", name)
    __import__("sampan.cgroups.v2.devices")
