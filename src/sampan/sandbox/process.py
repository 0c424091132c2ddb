r"""A program in a sandbox, shaped as asyncio's and `subprocess`'s processes are.

    async with box.exec("sh", "-c", "cat; exit 3") as p:
        await p.stdin.write(b"hello\n")
        await p.stdin.close()
        print(await p.stdout.readline())
        status = await p.wait()

Leaving the block ends the program and everything that it started, by its cgroup, if it still runs.

    make fifos ─ Exec ─ Start ─ connect ─ Wait … exit ─ Delete ─ remove fifos

Whatever is cancelled at whichever step, `close` undoes all of them; it is not cancelled itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal as signals
from collections.abc import Generator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from sampan.concurrency import shielded, to_thread
from sampan.errors import FailedPrecondition, NotFound, SampanError
from sampan.runtime import Exit, Stdio
from sampan.sandbox.scope import scoped
from sampan.sandbox.streams import Fifos, Reader, Writer
from sampan.sandbox.values import Completed

if TYPE_CHECKING:
    from sampan.client import Client as RawClient
    from sampan.sandbox.box import Sandbox

__all__ = ["Gathered", "Process"]

T = TypeVar("T")

_QUIET_S: Final = 0.1
_END_S: Final = 20.0


class Gathered:
    """What a program wrote so far, up to a limit in bytes for each stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.parts: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.total = 0
        self.truncated = False

    async def read(self, number: int, reader: Reader) -> None:
        """Read a stream to its end."""
        kept = self.parts[number]
        while data := await reader.read(1 << 16):
            self.total += len(data)
            room = self._limit - len(kept)
            kept += data[: max(0, room)]
            self.truncated |= len(data) > room

    @property
    def stdout(self) -> bytes:
        return bytes(self.parts[1])

    @property
    def stderr(self) -> bytes:
        return bytes(self.parts[2])


class Process:
    """Made by `Sandbox.exec`; it runs from `start`, or from the beginning of its block."""

    def __init__(
        self,
        box: Sandbox,
        args: tuple[str, ...],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        tty: bool = False,
        stdin: bool = True,
    ) -> None:
        self._box = box
        self.args = args
        self._changes: dict[str, Any] = {"env": env, "cwd": cwd, "user": user, "tty": tty}
        self._tty = tty
        self._wants_stdin = stdin
        self.id = secrets.token_hex(16)
        """Its exec id."""
        self.pid = 0
        """On this host; 0 before it runs."""
        self._fifos: Fifos | None = None
        self._waiter: asyncio.Task[Exit] | None = None
        self._stdin: Writer | None = None
        self._stdout: Reader | None = None
        self._stderr: Reader | None = None
        self._begun = self._closed = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def namespace(self) -> str:
        """The namespace of its client."""
        return self._box.namespace

    @property
    def _raw(self) -> RawClient:
        return self._box.client.raw

    def _stream(self, stream: T | None, name: str) -> T:
        if stream is None:
            raise FailedPrecondition(
                f"{self.args[0]} has no {name}: it has not started, or was not given one"
            )
        return stream

    @property
    def stdin(self) -> Writer:
        """What it reads.

        Raises:
          FailedPrecondition: it does not run, or was started with `stdin=False`.
        """
        return self._stream(self._stdin, "stdin")

    @property
    def stdout(self) -> Reader:
        """What it writes; with a terminal, everything."""
        return self._stream(self._stdout, "stdout")

    @property
    def stderr(self) -> Reader:
        """What it writes as errors; there is none with a terminal."""
        return self._stream(self._stderr, "stderr")

    @property
    def returncode(self) -> int | None:
        """Its exit status, 128 + n after signal n; None while it runs."""
        if self._waiter is None or not self._waiter.done() or self._waiter.cancelled():
            return None
        return self._waiter.result().status if self._waiter.exception() is None else None

    @scoped
    async def start(self) -> None:
        """Run it. Cancelled or failed, nothing of it is left.

        Raises:
          FailedPrecondition: there is no such program, it may not be run, or it was started before.
          NotFound: the sandbox has ended.
        """
        if self._begun:
            raise FailedPrecondition(f"{self.args[0]} was started before: make another by exec()")
        self._begun = True
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        tasks, box = self._raw.tasks, self._box.id
        folder = self._box.folder / f"exec-{self.id}"
        spec = await self._box.process_spec(self.args, **self._changes)
        fifos = Fifos(folder, stdin=self._wants_stdin, stderr=not self._tty)
        self._fifos = fifos
        await to_thread(fifos.make)
        stdio = Stdio(fifos.path(0), fifos.path(1), fifos.path(2), self._tty)
        # Neither call is left half-way: an exec being born can be neither killed nor deleted.
        await shielded(_END_S, tasks.exec(box, self.id, json.dumps(spec).encode(), stdio))
        self.pid = await shielded(4 * _END_S, tasks.start(box, self.id))
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_task(tasks.wait(box, self.id), name=f"wait {self.id[:8]}")
        self._stdout = fifos.reader(1)
        if not self._tty:
            self._stderr = fifos.reader(2)
        if self._wants_stdin:
            self._stdin = fifos.writer(self._end_stdin)

    @scoped
    async def _end_stdin(self) -> None:
        with suppress(NotFound, FailedPrecondition):
            await self._raw.tasks.close_stdin(self._box.id, self.id)

    @scoped
    async def wait(self) -> int:
        """Return its exit status when it has ended; see `returncode`."""
        waiter = self._waiter
        if waiter is None:
            raise FailedPrecondition(f"{self.args[0]} does not run: start it first")
        try:
            return (await asyncio.shield(waiter)).status
        except NotFound:
            self._box.check_alive()
            raise

    async def communicate(self, input: bytes | str | None = None) -> tuple[bytes, bytes]:
        """Write `input`, read all that it writes, wait for its end; return stdout and stderr."""
        gathered = Gathered(1 << 62)
        await self.gather(input, gathered)
        return gathered.stdout, gathered.stderr

    @scoped
    async def gather(self, input: bytes | str | None, into: Gathered) -> Completed:
        """Do what `communicate` does, and collect into an object of the caller's."""
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(into.read(1, self.stdout))]
            if self._stderr is not None:
                readers.append(group.create_task(into.read(2, self._stderr)))
            writing = None
            if self._stdin is not None:
                writing = group.create_task(self._feed(input or b""))
            status = await self.wait()
            if writing is not None:
                writing.cancel()
            await self._drain(readers, into)
        return Completed(self.args, status, into.stdout, into.stderr, into.truncated)

    async def _feed(self, data: bytes | str) -> None:
        with suppress(BrokenPipeError):
            await self.stdin.write(data)
        await self.stdin.close()

    async def _drain(self, readers: list[asyncio.Task[None]], into: Gathered) -> None:
        """Read on until the end; but do not wait for ever for what it left in the background.

        Such a program may hold our pipes open for as long as it likes. So after a while in which
        nothing came we look whether there is one; if there is none, the end is on its way.
        """
        while True:
            before = into.total
            _, pending = await asyncio.wait(readers, timeout=_QUIET_S)
            if not pending:
                return
            if into.total == before and await self._left_some():
                for reader in pending:
                    reader.cancel()
                return

    async def _left_some(self) -> bool:
        try:
            return len(await self._raw.tasks.pids(self._box.id)) > 1
        except SampanError:
            return True

    @scoped
    async def send_signal(self, signal: int) -> None:
        """Send it, and nothing it started, a signal; one that has ended gets none."""
        with suppress(NotFound):
            await self._raw.tasks.kill(self._box.id, signal, exec_id=self.id)

    async def terminate(self) -> None:
        """Ask it to end, by SIGTERM."""
        await self.send_signal(signals.SIGTERM)

    @scoped
    async def kill(self) -> None:
        """End it and everything that it started, at once."""
        with suppress(NotFound):
            await self._raw.tasks.kill(self._box.id, signals.SIGKILL, exec_id=self.id, all=True)

    @scoped
    async def resize(self, width: int, height: int) -> None:
        """Give its terminal another size, in characters."""
        await self._raw.tasks.resize(self._box.id, width, height, self.id)

    async def close(self) -> None:
        """End it if it runs, and free what it had. Harmless twice; cancelled, it still does."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await shielded(3 * _END_S, _joined(self._closing))

    @scoped
    async def _close(self) -> None:
        try:
            if self._fifos is not None:
                if self.returncode is None:
                    with suppress(NotFound, FailedPrecondition):
                        await self._end()
                with suppress(NotFound, FailedPrecondition):
                    await self._raw.tasks.delete(self._box.id, self.id)
        finally:
            await self._drop()

    async def _end(self) -> None:
        """Kill it, and wait until it is over."""
        tasks, box = self._raw.tasks, self._box.id
        await tasks.kill(box, signals.SIGKILL, exec_id=self.id, all=True)
        async with asyncio.timeout(_END_S):
            await (tasks.wait(box, self.id) if self._waiter is None else self._waiter)

    async def _drop(self) -> None:
        if self._stdin is not None:
            self._stdin.drop()
        for reader in (self._stdout, self._stderr):
            if reader is not None:
                reader.close()
        if self._waiter is not None:
            self._waiter.cancel()
            await asyncio.wait((self._waiter,))
            if not self._waiter.cancelled():
                self._waiter.exception()
        if self._fifos is not None:
            await to_thread(self._fifos.remove)
        self._box.forget(self)

    async def __aenter__(self) -> Self:
        if not self._begun:
            await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        """Start it and return it: `p = await box.exec(...)`; it lives as long as its sandbox."""
        return self._started().__await__()

    async def _started(self) -> Self:
        await self.start()
        return self


async def _joined(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))
    task.result()
