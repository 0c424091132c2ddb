"""Attach: what a container writes from now on, to everybody who listens; what they type, to it.

The shim writes each stream into the log and, while somebody reads it, into a fifo. A fifo has one
reader: a `Hub` for each container that is attached to, which passes on to all clients.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.cri.store.records import Container
from sampan.cri.streaming import Reader, Size, Writer, drain, feed
from sampan.errors import FailedPrecondition, SampanError

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["Hubs"]


class _Fan:
    """A Writer that writes to many; who has gone is left out."""

    def __init__(self) -> None:
        self.writers: set[Writer] = set()

    async def write(self, data: bytes) -> None:
        """Write to each; waits for the slowest, as a terminal would."""
        for writer in tuple(self.writers):
            try:
                await writer.write(data)
            except ConnectionError:
                self.writers.discard(writer)

    async def close(self) -> None:
        """Nothing to do: each client's server closes its own."""


class _Hub:
    """The readers of one container's fifos."""

    def __init__(self, cri: Cri, container: Container) -> None:
        self._folder = cri.container_folder(container.id) / "io"
        self._container = container
        self.clients = 0
        self.stdout, self.stderr = _Fan(), _Fan()
        self._tasks: list[asyncio.Task[None]] = []
        self._fds: list[int] = []
        self._held: list[int] = []
        loop = asyncio.get_running_loop()
        for name, fan in (("stdout", self.stdout), ("stderr", self.stderr)):
            path = self._folder / name
            if not path.exists():
                continue
            reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            # While we hold a writer, too, the fifo has no end between two writes of the shim.
            self._held.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            self._fds.append(reading)
            self._tasks.append(loop.create_task(drain(reading, fan)))

    async def ended(self) -> None:
        """Wait until the container has ended, and its last output is passed on."""
        await self._container.ended.wait()
        self._release()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def _release(self) -> None:
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    async def close(self) -> None:
        """Read no more."""
        self._release()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


class Hubs:
    """The hubs of those containers that somebody is attached to."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri
        self._hubs: dict[str, _Hub] = {}

    async def attach(
        self,
        container: Container,
        *,
        stdin: Reader | None,
        stdout: Writer | None,
        stderr: Writer | None,
        resize: AsyncIterator[Size],
    ) -> None:
        """Join a container's streams until it ends or the caller is cancelled.

        Raises:
          FailedPrecondition: it does not run.
        """
        if not container.running:
            raise FailedPrecondition(f"container {container.id} is not running")
        hub = self._hubs.get(container.id)
        if hub is None:
            hub = self._hubs[container.id] = _Hub(self._cri, container)
        hub.clients += 1
        beside = []
        loop = asyncio.get_running_loop()
        if stdout is not None:
            hub.stdout.writers.add(stdout)
        if stderr is not None:
            hub.stderr.writers.add(stderr)
        if stdin is not None and container.config.stdin:
            beside.append(loop.create_task(self._feed(container, stdin)))
        if container.config.tty:
            beside.append(loop.create_task(self._resize(container, resize)))
        try:
            await hub.ended()
        finally:
            for task in beside:
                task.cancel()
            if beside:
                await asyncio.wait(beside)
            hub.stdout.writers.discard(stdout)
            hub.stderr.writers.discard(stderr)
            hub.clients -= 1
            if not hub.clients:
                self._hubs.pop(container.id, None)
                await hub.close()

    async def _feed(self, container: Container, stdin: Reader) -> None:
        path = self._cri.container_folder(container.id) / "io" / "stdin"
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            await feed(stdin, fd)
        finally:
            os.close(fd)
        if container.config.stdin_once:
            with suppress(SampanError):
                await self._cri.engine.tasks.close_stdin(container.id)

    async def _resize(self, container: Container, sizes: AsyncIterator[Size]) -> None:
        async for size in sizes:
            with suppress(SampanError):
                await self._cri.engine.tasks.resize(container.id, size.width, size.height)
