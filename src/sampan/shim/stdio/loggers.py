"""binary:// programs: they read the container's pipes themselves, the shim only starts them."""

from __future__ import annotations

import contextlib
import os

from sampan.errors import DeadlineExceeded, Unknown
from sampan.rpc.loop import Future
from sampan.shim.processes import Processes
from sampan.shim.reaper import Exit

__all__ = ["Logger", "start"]

_READY_S = 10.0
_END_S = 10.0


class Logger:
    """A running logger; its ends of the pipes are its own."""

    def __init__(self, processes: Processes, pid: int, ended: Future[Exit]) -> None:
        self._processes = processes
        self.pid = pid
        self._ended = ended

    def finish_later(self) -> None:
        """It should end by itself, as its pipes have: TERM after 10 s, KILL after 10 more."""
        for delay_s, signal in ((_END_S, 15), (2 * _END_S, 9)):
            timer = self._processes.loop.call_later(
                delay_s,
                lambda number=signal: self._kill(number),  # type: ignore[misc]
            )
            self._ended.then(timer.cancel)

    def _kill(self, signal: int) -> None:
        if not self._ended.done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal)


async def start(
    processes: Processes,
    path: str,
    query: list[tuple[str, str]],
    *,
    container: str,
    namespace: str,
    stdout: int,
    stderr: int,
) -> Logger:
    """Start a logger that reads `stdout` and `stderr` (the caller's), and wait until it is ready.

    Raises:
      NotFound: there is no such program.
      DeadlineExceeded: fd 5 was not closed within 10 s.
      Unknown: it ended before it was ready.
    """
    argv = [path]
    for key, value in query:
        argv.append(key)
        if value:
            argv.append(value)
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        environment = {**os.environ, "CONTAINER_ID": container, "CONTAINER_NAMESPACE": namespace}
        pid, ended = processes.spawn(
            argv, {0: null, 1: null, 2: null, 3: stdout, 4: stderr, 5: writing}, environment
        )
        os.close(writing)
        writing = -1
        if not await processes.loop.readable(reading, _READY_S):
            os.killpg(pid, 9)
            raise DeadlineExceeded(f"logger {path}: not ready after {_READY_S:g} s")
        if ended.done:
            raise Unknown(f"logger {path}: ended with {ended.result().status} before it was ready")
        return Logger(processes, pid, ended)
    finally:
        os.close(null)
        os.close(reading)
        if writing >= 0:
            os.close(writing)
