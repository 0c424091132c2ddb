"""Programs run to their end, and killed with all their children when we stop caring.

    run ──fork+exec──▶ leader of a session of its own ──▶ its children, same process group
     │ pidfd readable: the leader exited          SIGKILL to the group on cancel and deadline
     │ pipes: read as they fill, kept up to a cap, the rest read and dropped

The leader is reaped only after its group has been signalled, so the group id cannot belong to
someone else by then. asyncio's child watchers are not used: they wait for any child of the process,
and would take exit codes from others who wait by pidfd, as these would from them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sampan.concurrency.shield import shielded
from sampan.concurrency.threads import Limit, to_thread
from sampan.errors import DeadlineExceeded, Unknown

__all__ = ["Completed", "run"]

log = logging.getLogger(__name__)

_SPAWN = Limit("spawn", 4)
_CHUNK_BYTES = 1 << 16
_LINGER_S = 1.0
"""How long a pipe may stay open, held by the leader's children, after the leader exited."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended and what it said."""

    argv: tuple[str, ...]
    returncode: int
    """Exit code; minus the signal's number when a signal ended it."""
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool = False
    stderr_truncated: bool = False

    def check(self) -> Completed:
        """Return self, or raise Unknown with the end of stderr if the program failed."""
        if self.returncode == 0:
            return self
        how = (
            f"exit code {self.returncode}" if self.returncode > 0 else f"signal {-self.returncode}"
        )
        said = self.stderr[-2000:].decode("utf-8", "replace").strip() or "nothing on stderr"
        raise Unknown(f"{shlex.join(self.argv)} ended with {how}: {said}")


class _Reader:
    """Collects one pipe of the child; owns the fd."""

    def __init__(self, fd: int, cap_bytes: int) -> None:
        self.fd = fd
        self.kept = bytearray()
        self.truncated = False
        self.ended = asyncio.Event()
        self._cap = cap_bytes
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            chunk = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.close()
            return
        room = self._cap - len(self.kept)
        self.kept += chunk[:room]
        self.truncated |= len(chunk) > room

    def close(self) -> None:
        if self.fd >= 0:
            asyncio.get_running_loop().remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1
        self.ended.set()


class _Writer:
    """Feeds stdin of the child; owns the fd."""

    def __init__(self, fd: int, data: bytes) -> None:
        self.fd = fd
        self._left = memoryview(data)
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_writer(fd, self._writable)

    def _writable(self) -> None:
        try:
            self._left = self._left[os.write(self.fd, self._left[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except OSError:
            # The child closed its stdin: it need not read all that we offer.
            self._left = self._left[:0]
        if not self._left:
            self.close()

    def close(self) -> None:
        if self.fd >= 0:
            asyncio.get_running_loop().remove_writer(self.fd)
            os.close(self.fd)
            self.fd = -1


class _Child:
    """The leader, from spawn to reaped."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self.argv = argv
        self.popen: subprocess.Popen[bytes] | None = None  # noqa: TID251
        self.pidfd = -1

    def spawn(
        self,
        stdin: int,
        stdout: int,
        stderr: int,
        env: Mapping[str, str] | None,
        cwd: str | None,
        pass_fds: Sequence[int],
    ) -> None:
        self.popen = subprocess.Popen(  # noqa: TID251 - the one place
            self.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
        self.pidfd = os.pidfd_open(self.popen.pid)

    async def exited(self) -> None:
        """Wait until the leader is a zombie; it is not reaped here."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            if not done.done():
                done.set_result(None)

        loop.add_reader(self.pidfd, readable)
        try:
            await done
        finally:
            loop.remove_reader(self.pidfd)

    def kill_group(self) -> None:
        """SIGKILL everyone in the leader's group; harmless when none is left."""
        if self.popen is not None and self.popen.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    async def reap(self) -> int:
        """Wait for the leader's end and take its code; closes the pidfd."""
        assert self.popen is not None  # noqa: S101 - called after spawn only
        await self.exited()
        code = self.popen.wait()
        os.close(self.pidfd)
        self.pidfd = -1
        return code


async def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes | int | None = None,
    stdout: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    pass_fds: Sequence[int] = (),
    timeout_s: float | None = None,
    cap_bytes: int = 16 << 20,
) -> Completed:
    """Run a program without a shell until it exits, and return how it ended and what it wrote.

    Args:
      argv: Program and arguments; a name without "/" is looked up in PATH.
      stdin: Bytes to feed, or an fd that stays the caller's; None is /dev/null.
      stdout: An fd of the caller's to write to; None collects.
      env: The whole environment; None inherits ours.
      cwd: Folder to start in.
      pass_fds: Inherited under the same numbers; they stay the caller's.
      timeout_s: Kill the group and raise when the program runs longer.
      cap_bytes: Keep so much of stdout and of stderr each; the rest is read and dropped.

    When this is cancelled or late, the whole group is dead and the leader reaped before it raises.
    Children that leave the group by setsid(2) are out of its reach.

    Raises:
      OSError: the program or `cwd` does not exist or may not be executed.
      DeadlineExceeded: `timeout_s` passed.
    """
    child = _Child(tuple(str(arg) for arg in argv))
    log.debug("run: %s", shlex.join(child.argv))
    ends: list[_Reader | _Writer] = []
    theirs: list[int] = []
    try:
        child_in = subprocess.DEVNULL
        if isinstance(stdin, int):
            child_in = stdin
        elif stdin is not None:
            child_in, ours = os.pipe()
            theirs.append(child_in)
            ends.append(_Writer(ours, stdin))
        out = err = None
        child_out = stdout
        if child_out is None:
            ours, child_out = os.pipe()
            theirs.append(child_out)
            out = _Reader(ours, cap_bytes)
            ends.append(out)
        ours, child_err = os.pipe()
        theirs.append(child_err)
        err = _Reader(ours, cap_bytes)
        ends.append(err)
        where = None if cwd is None else str(cwd)
        await to_thread(
            child.spawn, child_in, child_out, child_err, env, where, pass_fds, limit=_SPAWN
        )
        while theirs:
            os.close(theirs.pop())
        try:
            async with asyncio.timeout(timeout_s):
                await child.exited()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{shlex.join(child.argv)} did not end within {timeout_s:g} s and was killed"
            ) from None
        code = await child.reap()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                for reader in (out, err):
                    if reader is not None:
                        await reader.ended.wait()
        return Completed(
            child.argv,
            code,
            bytes(out.kept) if out else b"",
            bytes(err.kept),
            out.truncated if out else False,
            err.truncated,
        )
    finally:
        for fd in theirs:
            os.close(fd)
        if child.popen is not None and child.popen.returncode is None:
            child.kill_group()
            await shielded(10, child.reap())
        for end in ends:
            end.close()
