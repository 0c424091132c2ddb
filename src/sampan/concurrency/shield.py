"""Cleanup that is finished although its caller was cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from sampan.errors import DeadlineExceeded

__all__ = ["shielded"]

log = logging.getLogger(__name__)

T = TypeVar("T")


async def shielded(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end, whatever cancels us meanwhile, but for at most `seconds`.

    For `finally` blocks: `await shielded(10, self._undo(key))`. Cancellation that arrives meanwhile
    is raised when `work` has ended; then an error of `work` is logged, for the first error wins.

    Raises:
      DeadlineExceeded: `work` took longer; it has been cancelled and has ended.
    """
    task = asyncio.get_running_loop().create_task(work)
    deadline = asyncio.get_running_loop().time() + seconds
    cancelled: asyncio.CancelledError | None = None
    late = False
    while not task.done():
        try:
            left = None if late else max(0.0, deadline - asyncio.get_running_loop().time())
            done, _ = await asyncio.wait((task,), timeout=left)
        except asyncio.CancelledError as err:
            cancelled = err
            continue
        if not done:
            late = True
            task.cancel()
    if cancelled is not None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("cleanup failed after its caller was cancelled", exc_info=error)
        elif late:
            log.warning("cleanup was cut short: allowed=%gs", seconds)
        raise cancelled
    if late and task.cancelled():
        raise DeadlineExceeded(f"cleanup did not end within {seconds:g} s and was cut short")
    return task.result()
