"""Where confined workers come from: the zygote's fork, or an interpreter of their own.

run = ZygoteRunner(zygote)        2 ms; the engine preloads "sampan.storage.worker"
run = SpawnRunner()               80 ms; for programs that have no zygote
answer = await run(request, [blob_fd, target_fd])
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sampan import errors
from sampan.concurrency import Limit, run, to_thread

if TYPE_CHECKING:
    from sampan.zygote import Worker, Zygote

__all__ = ["MODULE", "Runner", "SpawnRunner", "ZygoteRunner"]

MODULE = "sampan.storage.worker"
"""What the zygote preloads for us."""

_FORKS = Limit("workers", 4)


class Runner(Protocol):
    """Runs one worker to its end."""

    async def __call__(
        self, request: Mapping[str, object], fds: Sequence[int]
    ) -> dict[str, object]:
        """Give a worker `request` and `fds`, which stay the caller's; return its answer.

        Cancelled, it has killed the worker and waited for its end.

        Raises:
          SampanError: what the worker says, in its own class.
          Internal: it died without an answer.
        """
        ...


def _answered(fd: int, status: int) -> dict[str, object]:
    text = os.pread(fd, 64 << 20, 0)
    if not text:
        raise errors.Internal(f"storage worker ended without an answer, status {status}")
    answer: dict[str, object] = json.loads(text)
    if "error" in answer:
        kind = getattr(errors, str(answer["error"]), None)
        if answer["error"] == "MissingLink":
            from sampan.storage.diff.reading import MissingLink

            kind = MissingLink
        message = str(answer.get("message", ""))
        raise (kind or errors.Unknown)(message)
    return answer


class SpawnRunner:
    """Starts an interpreter for each worker."""

    async def __call__(
        self, request: Mapping[str, object], fds: Sequence[int]
    ) -> dict[str, object]:
        answer = os.memfd_create("storage-worker")
        try:
            given = [answer, *fds]
            done = await run(
                [
                    sys.executable,
                    "-I",
                    "-m",
                    MODULE,
                    json.dumps(dict(request)),
                    ",".join(str(fd) for fd in given),
                ],
                pass_fds=given,
            )
            return _answered(answer, done.returncode)
        finally:
            os.close(answer)


class ZygoteRunner:
    """Forks each worker from a zygote that has preloaded `MODULE`."""

    def __init__(self, zygote: Zygote, module: str = MODULE) -> None:
        """Use `zygote`, which stays the caller's; `module` has another worker than ours."""
        self._zygote = zygote
        self._module = module

    async def __call__(
        self, request: Mapping[str, object], fds: Sequence[int]
    ) -> dict[str, object]:
        answer = os.memfd_create("storage-worker")
        born: list[Worker] = []
        payload = json.dumps(dict(request)).encode()

        def fork() -> None:
            born.append(self._zygote.fork(f"{self._module}:worker", payload, fds=[answer, *fds]))

        try:
            await to_thread(fork, limit=_FORKS)
            await _ended(born[0].pidfd)
            status = await to_thread(born[0].wait, limit=_FORKS)
            return _answered(answer, status)
        except asyncio.CancelledError:
            for worker in born:
                worker.signal(9)
                worker.wait(10)
            raise
        finally:
            for worker in born:
                worker.close()
            os.close(answer)


async def _ended(pidfd: int) -> None:
    """Wait until the process behind `pidfd` has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
