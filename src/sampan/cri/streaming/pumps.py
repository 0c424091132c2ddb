"""Moving bytes between streams of clients and file descriptors: fifos, pipes, terminals, sockets.

Both wait for readiness on the event loop and never block it; both need a descriptor that is
non-blocking, and leave it open.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from sampan.cri.streaming import CHUNK_BYTES, Reader, Writer

__all__ = ["drain", "feed"]


async def drain(fd: int, writer: Writer) -> None:
    """Write what can be read from `fd` to the client, until its end; leaves `writer` open.

    A terminal whose other side has closed counts as ended. Cancelled, it has not lost anything
    that a later `drain` of the same descriptor would want, but for the piece under way.

    Raises:
      ConnectionError: the client is gone, or does not want this stream any more.
      OSError: reading failed.
    """
    while True:
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            await _ready(fd, writing=False)
            continue
        except OSError as err:
            if err.errno == errno.EIO:
                return
            raise
        if not data:
            return
        await writer.write(data)


async def feed(reader: Reader, fd: int) -> None:
    """Write what the client sends to `fd`, until the client's end; the caller closes `fd` then.

    When nobody reads from `fd` any more, the rest is dropped: it would stop the client's other
    streams.

    Raises:
      OSError: writing failed.
    """
    while data := await reader.read():
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                await _ready(fd, writing=True)
            except OSError as err:
                if err.errno not in {errno.EPIPE, errno.EIO, errno.ECONNRESET}:
                    raise
                while await reader.read():
                    pass
                return


async def _ready(fd: int, *, writing: bool) -> None:
    """Wait until `fd` can be read or written, or has failed."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add: Callable[..., object] = loop.add_writer if writing else loop.add_reader
    remove = loop.remove_writer if writing else loop.remove_reader
    add(fd, _wake, future)
    try:
        await future
    finally:
        remove(fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
