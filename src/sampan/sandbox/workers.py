"""Asking a confined worker of the zygote, and waiting for its answer in an event loop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sampan import errors
from sampan.concurrency import Limit, shielded, to_thread
from sampan.linux import fds as fdlib

if TYPE_CHECKING:
    from sampan.zygote import Worker, Zygote

__all__ = ["FILES", "UPPERS", "ask"]

FILES: Final = "sampan.sandbox.fileworker:worker"
UPPERS: Final = "sampan.storage.uppers:worker"
_FORKS: Final = Limit("file workers", 8)
_MOST_BYTES: Final = 1 << 17


async def ask(
    zygote: Zygote, target: str, request: Mapping[str, object], fds: Sequence[int] = ()
) -> tuple[Any, list[int]]:
    """Return a worker's answer and the fds that came with it, which are the caller's.

    Cancelled, it has killed the worker and waited for its end.

    Raises:
      SampanError: what the worker says, in its own class.
      Internal: it died without an answer.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    born: list[Worker] = []
    payload = json.dumps(dict(request)).encode("utf-8", "surrogatepass")

    def fork() -> None:
        with theirs:
            born.append(zygote.fork(target, payload, [theirs.fileno(), *fds], name="sampan-files"))

    received: list[int] = []
    try:
        try:
            await to_thread(fork, limit=_FORKS)
            await _readable(ours)
            data, received = _receive(ours)
        except BaseException:
            for worker in born:
                worker.signal(9)
            raise
        finally:
            theirs.close()
            ours.close()
            for worker in born:
                await shielded(15, _over(worker))
    except BaseException:
        for fd in received:
            os.close(fd)
        raise
    if not data:
        raise errors.Internal(f"worker {target} ended without an answer: see its stderr")
    kind, value = json.loads(data)
    if kind == "ok":
        return value, received
    for fd in received:
        os.close(fd)
    raise getattr(errors, kind, errors.Unknown)(value)


def _receive(ours: socket.socket) -> tuple[bytes, list[int]]:
    try:
        return fdlib.recv_fds(ours, _MOST_BYTES, 4)
    except ConnectionError:
        return b"", []


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())


async def _over(worker: Worker) -> None:
    """Wait for the end of a worker that has answered, or was killed: a moment."""
    try:
        await to_thread(worker.wait, 10.0, limit=_FORKS)
    finally:
        worker.close()
