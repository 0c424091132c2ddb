"""cpuset of v2: which CPUs and memory nodes."""

from __future__ import annotations

from sampan.cgroups.alike import apply_cpuset, no_stats

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "cpuset"

apply = apply_cpuset
stats = no_stats
