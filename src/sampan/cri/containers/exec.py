"""Processes that are added to a container: ExecSync, and what the streaming server runs.

fifos ─▶ Exec ─▶ Start ─▶ copy until the process has ended and its output with it ─▶ Delete
             timeout, or the client is gone: everything that it has started is killed first
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import shielded, to_thread
from sampan.cri.containers.stdio import exec_streams
from sampan.cri.spec.build import exec_process
from sampan.cri.store.records import Container
from sampan.cri.streaming import Reader, Size, Writer, drain, feed
from sampan.cri.together import together
from sampan.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SampanError,
)

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["exec_sync", "run"]

log = logging.getLogger(__name__)

_CAP_BYTES: Final = 16 << 20
_UNDO_S: Final = 20.0


async def exec_sync(cri: Cri, request: pb.ExecSyncRequest) -> pb.ExecSyncResponse:
    """Run a command to its end and return what it wrote, 16 MiB of each stream at most.

    Raises:
      NotFound: there is no such container.
      FailedPrecondition: it does not run, or the command cannot be executed.
      DeadlineExceeded: the command took longer than the request allows, and was killed.
    """
    container = cri.container(request.container_id)
    stdout, stderr = _Collector(), _Collector()
    work = run(cri, container, tuple(request.cmd), stdout=stdout, stderr=stderr)
    timeout_s = request.timeout if request.timeout > 0 else None
    try:
        async with asyncio.timeout(timeout_s):
            code = await work
    except TimeoutError:
        raise DeadlineExceeded(
            f"command {request.cmd[0]!r} timed out: it took longer than {request.timeout} s"
        ) from None
    return pb.ExecSyncResponse(stdout=stdout.data, stderr=stderr.data, exit_code=code)


class _Collector:
    """A Writer that keeps the first 16 MiB."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._room = _CAP_BYTES

    @property
    def data(self) -> bytes:
        return b"".join(self._parts)

    async def write(self, data: bytes) -> None:
        if self._room:
            part = data[: self._room]
            self._parts.append(part)
            self._room -= len(part)

    async def close(self) -> None:
        """Nothing to do."""


async def run(
    cri: Cri,
    container: Container,
    command: Sequence[str],
    *,
    tty: bool = False,
    stdin: Reader | None = None,
    stdout: Writer | None = None,
    stderr: Writer | None = None,
    resize: AsyncIterator[Size] | None = None,
) -> int:
    """Run a command in a container; return its exit code when all its output is written.

    Cancelled, it leaves nothing of the command alive.

    Raises:
      FailedPrecondition: the container does not run, or the command cannot be executed.
    """
    if not command:
        raise InvalidArgument("exec: no command is given")
    if not container.running:
        name = pb.ContainerState.Name(container.state)
        raise FailedPrecondition(f"container {container.id} is in state {name}: not running")
    exec_id = secrets.token_hex(16)
    folder = cri.container_folder(container.id) / "io" / exec_id
    session = _Session(cri, container, exec_id, folder)
    try:
        return await session.run(command, tty, stdin, stdout, stderr, resize)
    finally:
        await shielded(_UNDO_S, session.close())


class _Session:
    """One exec: its fifos, and what copies through them."""

    def __init__(self, cri: Cri, container: Container, exec_id: str, folder: Path) -> None:
        self._cri = cri
        self._tasks = cri.engine.tasks
        self._container = container
        self._id = exec_id
        self._folder = folder
        self._fds: list[int] = []
        self._made = False
        self._over = False
        self._status = 0

    async def run(
        self,
        command: Sequence[str],
        tty: bool,
        stdin: Reader | None,
        stdout: Writer | None,
        stderr: Writer | None,
        resize: AsyncIterator[Size] | None,
    ) -> int:
        streams = await to_thread(
            lambda: exec_streams(
                self._folder,
                stdin=stdin is not None,
                stdout=stdout is not None,
                stderr=stderr is not None,
                tty=tty,
            )
        )
        outputs = [
            (self._open(path, os.O_RDONLY), writer)
            for path, writer in ((streams.stdout, stdout), (streams.stderr, stderr))
            if path and writer is not None
        ]
        process = exec_process(self._container.spec, tuple(command), tty=tty)
        await self._tasks.exec(self._container.id, self._id, process, streams)
        self._made = True
        await self._tasks.start(self._container.id, self._id)
        beside = []
        loop = asyncio.get_running_loop()
        if stdin is not None:
            beside.append(loop.create_task(self._feed(stdin, streams.stdin)))
        if resize is not None and tty:
            beside.append(loop.create_task(self._resize(resize)))
        try:
            await together(self._wait(), *(_drained(fd, writer) for fd, writer in outputs))
        finally:
            for task in beside:
                task.cancel()
            if beside:
                await asyncio.wait(beside)
        return self._status

    async def _wait(self) -> None:
        self._status = (await self._tasks.wait(self._container.id, self._id)).status
        self._over = True

    def _open(self, path: str, flags: int) -> int:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        self._fds.append(fd)
        return fd

    async def _feed(self, stdin: Reader, path: str) -> None:
        fd = self._open(path, os.O_WRONLY)
        await feed(stdin, fd)
        self._fds.remove(fd)
        os.close(fd)
        with suppress(SampanError):
            await self._tasks.close_stdin(self._container.id, self._id)

    async def _resize(self, sizes: AsyncIterator[Size]) -> None:
        async for size in sizes:
            with suppress(SampanError):
                await self._tasks.resize(
                    self._container.id, size.width, size.height, exec_id=self._id
                )

    async def close(self) -> None:
        """Kill what still runs, and remove everything."""
        if self._made:
            await self._end()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        await to_thread(shutil.rmtree, self._folder, True)

    async def _end(self) -> None:
        name = self._container.id
        if not self._over:
            with suppress(SampanError):
                await self._tasks.kill(name, signal.SIGKILL, exec_id=self._id, all=True)
                async with asyncio.timeout(_UNDO_S / 2):
                    await self._tasks.wait(name, self._id)
        try:
            await self._tasks.delete(name, self._id)
        except NotFound:
            log.debug("exec went with its container: container=%s", name)
        except SampanError as err:
            log.warning("exec stays: container=%s exec=%s: %s", name, self._id, err)


async def _drained(fd: int, writer: Writer) -> None:
    try:
        await drain(fd, writer)
    except ConnectionError:
        await drain(fd, _Nobody())


class _Nobody:
    """A Writer for a client that has closed one of its streams."""

    async def write(self, data: bytes) -> None:
        """Drop it, so that the process does not stop."""

    async def close(self) -> None:
        """Nothing to do."""
