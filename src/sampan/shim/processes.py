"""How the shim runs programs: runtimes and loggers. Waits go through the reaper."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping, Sequence

from sampan.errors import DeadlineExceeded, NotFound
from sampan.rpc.loop import ERR, HUP, IN, Future, Loop
from sampan.shim.errands import Errands
from sampan.shim.reaper import Exit, Reaper

__all__ = ["Processes", "Result"]

_OUTPUT_MAX_BYTES = 4 << 20
_SIGNALS = [number for number in range(1, 65) if number not in (9, 19, 32, 33)]


class Result:
    """What a program has said."""

    __slots__ = ("output", "status")

    def __init__(self, status: int, output: bytes) -> None:
        self.status = status
        self.output = output
        """stdout and stderr together, or empty when it was given fds of its own."""


class Processes:
    """Spawns and waits."""

    def __init__(self, loop: Loop, reaper: Reaper) -> None:
        self.loop = loop
        self.reaper = reaper
        self.errands = Errands(loop, reaper)

    def spawn(
        self,
        argv: Sequence[str],
        fds: Mapping[int, int],
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, Future[Exit]]:
        """Start `argv[0]` (looked up in PATH) with exactly the fds `number there: fd here`.

        Its signals are as in a fresh program. The fds stay the caller's.

        Raises:
          NotFound: there is no such program.
        """
        environ = dict(os.environ if environment is None else environment)
        # Above every number asked for, so that no dup2 overwrites the source of a later one.
        moved = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for number, fd in fds.items()}
        try:
            pid = os.posix_spawnp(
                argv[0],
                list(argv),
                environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in moved.items()],
                setsid=True,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        except FileNotFoundError as err:
            raise NotFound(f"exec: {argv[0]!r}: executable file not found in $PATH") from err
        finally:
            for fd in moved.values():
                os.close(fd)
        return pid, self.reaper.expect(pid)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        stdio: tuple[int, int, int] | None = None,
        timeout_s: float = 60.0,
    ) -> Result:
        """Run a program to its end; with `stdio` it gets these, else its output is returned.

        Raises:
          DeadlineExceeded: it was killed after `timeout_s`.
          NotFound: there is no such program.
        """
        if stdio is not None:
            pid, ended = self.spawn(argv, dict(enumerate(stdio)))
            status = (await self._end(argv, pid, ended, timeout_s)).status
            return Result(status, b"")
        source = os.memfd_create("stdin", os.MFD_CLOEXEC)
        reading, writing = os.pipe()
        try:
            os.write(source, stdin)
            os.lseek(source, 0, os.SEEK_SET)
            pid, ended = self.spawn(argv, {0: source, 1: writing, 2: writing})
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(source)
            os.close(writing)
        os.set_blocking(reading, False)
        output = bytearray()

        def read(_events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                data = os.read(reading, 65536)
                if not data:
                    self.loop.unwatch(reading)
                elif len(output) < _OUTPUT_MAX_BYTES:
                    output.extend(data)

        self.loop.watch(reading, IN | ERR | HUP, read)
        try:
            status = (await self._end(argv, pid, ended, timeout_s)).status
            with contextlib.suppress(BlockingIOError):
                while data := os.read(reading, 65536):
                    output += data
        finally:
            self.loop.unwatch(reading)
            os.close(reading)
        return Result(status, bytes(output))

    async def _end(
        self, argv: Sequence[str], pid: int, ended: Future[Exit], timeout_s: float
    ) -> Exit:
        try:
            return await self.loop.within(ended, timeout_s, " ".join(argv))
        except DeadlineExceeded:
            os.kill(pid, 9)
            await ended
            raise
