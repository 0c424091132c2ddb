"""rdma: handles and objects of each adapter."""

from __future__ import annotations

from sampan.cgroups.alike import apply_rdma, rdma_stats

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "rdma"

apply = apply_rdma
stats = rdma_stats
