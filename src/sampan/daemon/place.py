"""The daemon's own place on the host: how likely the kernel kills it, and which cgroup it is in."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sampan.engine import Settings
from sampan.errors import InvalidArgument, SampanError

__all__ = ["take_place"]

log = logging.getLogger(__name__)


def take_place(settings: Settings) -> None:
    """Set `oom_score` and join `cgroup`, where the configuration says so; blocks shortly.

    What we lack the right for is a warning: a unit file may have done it better already.

    Raises:
      InvalidArgument: the score is out of range, or the cgroup's name is no path from the root.
    """
    if settings.oom_score:
        if not -1000 <= settings.oom_score <= 1000:
            raise InvalidArgument(
                f"config file {settings.config} is refused: oom_score: {settings.oom_score} is not"
                " between -1000 and 1000"
            )
        try:
            Path("/proc/self/oom_score_adj").write_text(str(settings.oom_score), encoding="ascii")
        except OSError as err:
            log.warning("oom_score stays as it is: %s", err.strerror)
    if settings.cgroup:
        if not settings.cgroup.startswith("/") or ".." in Path(settings.cgroup).parts:
            raise InvalidArgument(
                f"config file {settings.config} is refused: cgroup.path: {settings.cgroup!r} must"
                " begin with / and have no .."
            )
        from sampan.cgroups import Manager

        try:
            manager = Manager(settings.cgroup)
            manager.create(exclusive=False, best_effort=True)
            manager.add(os.getpid())
        except (SampanError, OSError) as err:
            log.warning("cgroup stays as it is: %s: path=%s", err, settings.cgroup)
