"""pids: how many tasks."""

from __future__ import annotations

from sampan.cgroups.alike import apply_pids, pids_stats

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "pids"

apply = apply_pids
stats = pids_stats
