"""Where a container's streams go: its log, and fifos for those who attach.

<state>/.../containers/<id>/io/stdin|stdout|stderr    fifos, 0600
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from sampan.cri.store.records import Container
from sampan.runtime import Stdio

__all__ = ["exec_streams", "fifo", "streams_of"]


def streams_of(container: Container, folder: Path, line_max: int) -> Stdio:
    """Return the streams of a container's first process, and make their fifos.

    Args:
      container: Whose.
      folder: Of its fifos.
      line_max: Longer lines of the log are split; bytes, 0 or less is no limit.
    """
    config = container.config
    if container.log_path:
        Path(container.log_path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    stdin = fifo(folder / "stdin") if config.stdin else ""
    stdout = _sink(container, fifo(folder / "stdout"), line_max)
    stderr = "" if config.tty else _sink(container, fifo(folder / "stderr"), line_max)
    return Stdio(stdin, stdout, stderr, config.tty)


def _sink(container: Container, attach: str, line_max: int) -> str:
    path, form = (container.log_path, "cri") if container.log_path else (os.devnull, "raw")
    query = f"format={form}&max-size=0&max-line={max(line_max, 0)}&attach={quote(attach)}"
    return f"sampan-log://{quote(path)}?{query}"


def fifo(path: Path) -> str:
    """Make a fifo, in a folder that is made, too; return its path."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.mkfifo(path, 0o600)
    return os.fspath(path)


def exec_streams(folder: Path, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Stdio:
    """Make the fifos of an exec and return them as its streams."""
    return Stdio(
        fifo(folder / "stdin") if stdin else "",
        fifo(folder / "stdout") if stdout else "",
        fifo(folder / "stderr") if stderr and not tty else "",
        tty,
    )
