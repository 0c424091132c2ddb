"""Where every thread and every task of the loop is, as text: for SIGUSR1 and the debug socket."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import traceback

__all__ = ["stacks"]

_DEEPEST = 40


def stacks(loop: asyncio.AbstractEventLoop) -> str:
    """Return the stacks of all threads and of all tasks of `loop`, also while it is stuck.

    Not by faulthandler: it walks the frames of threads that run, and may crash on them.
    """
    names = {one.ident: one.name for one in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way
        lines = "".join(traceback.format_stack(frame, limit=_DEEPEST))
        parts.append(f"thread {names.get(ident, '?')} (most recent call last)\n{lines}")
    for task in _tasks(loop):
        text = io.StringIO()
        task.print_stack(limit=_DEEPEST, file=text)
        parts.append(text.getvalue())
    return "\n".join(parts)


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[object]]:
    for _ in range(100):
        try:
            return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
        except RuntimeError:  # the set changed while another thread's loop ran
            continue
    return []
