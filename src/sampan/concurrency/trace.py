"""Named points between the steps of a durable operation, where a test may kill the process.

Rooms that promise crash safety call `trace("room.step")` between two steps whose order matters. It
costs one `is None` test unless the process was started for such a test:

    SAMPAN_TRACE_KILL=content.renamed      SIGKILL ourselves when that point is first reached
    SAMPAN_TRACE_KILL=content.renamed:3    when it is reached for the third time
    SAMPAN_TRACE_LOG=/path/to/file         append each name as it is reached, one a line

The log tells a test which points an operation passes, so that the test needs no list of its own.
Forked workers inherit both; `arm` sets them in a process that runs already. Loads nothing but `os`
and `signal`, so that confined workers may use it.
"""

from __future__ import annotations

import os
import signal

__all__ = ["arm", "trace"]

# This is test equipment, and must also work in programs that do not parse our settings: hence the
# one place below the entry points that reads the environment.
_log: str | None = os.environ.get("SAMPAN_TRACE_LOG")
_kill: str | None = None
_left = 0


def arm(kill: str | None = None, log: str | None = None) -> None:
    """Set both variables anew for this process: `kill` is `name` or `name:count`, None disarms."""
    global _kill, _left, _log  # noqa: PLW0603 - process-wide by purpose
    name, _, count = (kill or "").partition(":")
    _kill = name or None
    _left = int(count or 1)
    _log = log


def trace(name: str) -> None:
    """Pass the point `name`: do nothing, or die here as if the machine lost power."""
    global _left  # noqa: PLW0603
    if _kill is None and _log is None:
        return
    if _log is not None:
        fd = os.open(_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, name.encode() + b"\n")
        finally:
            os.close(fd)
    if name == _kill:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("SAMPAN_TRACE_KILL"), _log)
