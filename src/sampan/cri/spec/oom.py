"""Who the kernel's OOM killer takes first: oom_score_adj."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sampan.linux import capabilities

__all__ = ["oom_score"]


def oom_score(wanted: int, *, restricted: bool) -> int:
    """Return the score to set: no lower than ours where we may not lower it.

    Args:
      wanted: The request's.
      restricted: `restrict_oom_score_adj`: never lower than the daemon's own.
    """
    return max(wanted, _own()) if restricted or not _may_lower() else wanted


@cache
def _may_lower() -> bool:
    effective, _, _ = capabilities.capget()
    return bool(effective >> capabilities.NUMBERS["CAP_SYS_RESOURCE"] & 1)


def _own() -> int:
    try:
        return int(Path("/proc/self/oom_score_adj").read_text())
    except (OSError, ValueError):
        return 0
