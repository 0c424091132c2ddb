"""Being attached to a process: stdio, signals, window size, detaching, its exit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from sampan.cli import terminal
from sampan.cli.streams import Log, Streams
from sampan.concurrency import to_thread
from sampan.errors import SampanError
from sampan.runtime import Exit

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.client import Client

__all__ = ["Session"]

_FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT")


_BROKEN = -1
"""In the queue of signals: nobody reads our output, as when a pipe would give SIGPIPE."""


class Session:
    """One process of a container, with our stdio as its own."""

    def __init__(
        self,
        client: Client,
        id: str,
        streams: Streams,
        *,
        exec_id: str = "",
        log: Path | None = None,
        proxy: bool = True,
        terminal: bool = False,
    ) -> None:
        self._client = client
        self._id = id
        self._exec_id = exec_id
        self._streams = streams
        self._log = Log(log) if log is not None else None
        self._proxy = proxy
        self._terminal = terminal
        self._loop = asyncio.get_running_loop()
        self._detached = asyncio.Event()
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._handlers = contextlib.ExitStack()

    def connect(self) -> None:
        """Start copying; the process exists, running or not.

        From now on signals are kept for it: one that came between its start and `finish` would end
        us instead.
        """
        if self._proxy and not (self._terminal and os.isatty(0)):
            for name in _FORWARDED:
                self._on(self._handlers, name)
        loop = self._loop
        if not self._terminal:
            self._streams.on_broken = lambda: self._safely(loop, self._signals.put_nowait, _BROKEN)
        self._streams.connect(
            self._log,
            lambda: self._safely(loop, self._signals.put_nowait, 0),
            lambda: self._safely(loop, self._detached.set),
        )

    @staticmethod
    def _safely(loop: asyncio.AbstractEventLoop, call: object, *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: we are leaving anyway
            loop.call_soon_threadsafe(call, *args)  # type: ignore[arg-type]

    async def resize(self) -> None:
        """Give the process's terminal, if it has one, the size of ours."""
        width, height = terminal.size()
        if self._terminal and width:
            await self._client.tasks.resize(self._id, width, height, self._exec_id)

    async def finish(self) -> Exit | None:
        """Wait for the process's end and for all its output; None when the user detached."""
        with self._handlers as stack:
            if self._terminal:
                stack.enter_context(terminal.Raw())
                self._on(stack, "SIGWINCH")
                self._signals.put_nowait(signal.SIGWINCH)
            ended = await self._until_exit()
            if ended is not None:
                await to_thread(self._streams.finish)
        if self._log is not None and ended is not None:
            self._log.close()
        return ended

    def _on(self, stack: contextlib.ExitStack, name: str) -> None:
        number = getattr(signal, name)
        self._loop.add_signal_handler(number, self._signals.put_nowait, number)
        stack.callback(self._loop.remove_signal_handler, number)

    async def _until_exit(self) -> Exit | None:
        ended: Exit | None = None
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump())
            detach = group.create_task(self._detached.wait())
            wait = group.create_task(self._client.tasks.wait(self._id, self._exec_id))
            await asyncio.wait((wait, detach), return_when=asyncio.FIRST_COMPLETED)
            if wait.done():
                ended = wait.result()
            for task in (pump, detach, wait):
                task.cancel()
        return ended

    async def _pump(self) -> None:
        tasks = self._client.tasks
        while True:
            number = await self._signals.get()
            with contextlib.suppress(SampanError):  # it may have ended a moment ago
                if number == 0:
                    await tasks.close_stdin(self._id, self._exec_id)
                elif number == _BROKEN:
                    # Without --rm the log goes on; with it nobody would ever see the rest.
                    everything = not self._exec_id
                    await tasks.kill(
                        self._id, signal.SIGKILL, exec_id=self._exec_id, all=everything
                    )
                elif number == signal.SIGWINCH:
                    await self.resize()
                else:
                    await tasks.kill(self._id, number, exec_id=self._exec_id)
