"""Errands: what is done in a child of the shim that ends, so that the shim stays small.

A forked shim shares its memory with the zygote until it writes; and Python writes wherever it
looks, since it counts references. Who reads a config.json, plans a rootfs and bears a container
has made a megabyte its own for that alone. So a child is forked for it, and its memory goes when it
ends. What it has borne is adopted by the shim, a subreaper, as what `runc create` bears is.

    shim -> fork -> errand: function() -> one packet: b"ok" or the error, and a result; fds beside
         <- adopts whatever the errand leaves behind

The loop goes on meanwhile: a slow hook or a big cgroup stops nobody else.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable

from sampan import errors
from sampan.errors import SampanError, Unknown
from sampan.linux import fds, process
from sampan.model.runtime.document import dumps, loads
from sampan.shim.reaper import Reaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from sampan.rpc.loop import Loop

__all__ = ["Errands"]

_MAX_BYTES = 4 << 20
_FOREVER_S = 10.0**9


class Errands:
    """Runs functions in children."""

    def __init__(self, loop: Loop, reaper: Reaper) -> None:
        self._loop = loop
        self._reaper = reaper

    async def run(self, function: Callable[[], tuple[Any, list[int]]]) -> tuple[Any, list[int]]:
        """Return what `function` returned in a child: a value that JSON knows, and fds.

        The fds become the caller's. All that the shim has open is open in the child, too.

        Raises:
          SampanError: as `function` did; OSErrors and the like become Unknown.
        """
        ours, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        try:
            # Room for a whole answer, so that the child never waits for us.
            theirs.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _MAX_BYTES)
            pid, _ = process.clone3(pidfd=False)
            if pid == 0:
                _run(function, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ended = self._reaper.expect(pid)
        try:
            await self._loop.readable(ours.fileno(), _FOREVER_S)
            data, received = fds.recv_fds(ours, _MAX_BYTES, 8)
        except ConnectionError:
            data, received = b"", []
        finally:
            ours.close()
        if not data:
            status = (await ended).status
            raise Unknown(f"a child of the shim ended without a word, with status {status}")
        kind, value = loads(data)
        if kind != "ok":
            raise getattr(errors, kind, Unknown)(value)
        return value, received


def _run(function: Callable[[], tuple[Any, list[int]]], answer: _socket.socket) -> NoReturn:
    """In the child: do it, say so, and end without any clean-up that is the shim's."""
    try:
        try:
            value, given = function()
            data = dumps(["ok", value]).encode()
        except SampanError as error:
            data, given = dumps([_name(error), str(error)]).encode(), []
        except Exception as error:  # noqa: BLE001  the edge of a program: answered
            text = f"{type(error).__name__}: {error}"
            data, given = dumps(["Unknown", text]).encode(), []
        fds.send_fds(answer, data, given)
    finally:
        os._exit(0)


def _name(error: SampanError) -> str:
    """Return the class in `sampan.errors` that `error` belongs to."""
    for each in type(error).__mro__:
        if getattr(errors, each.__name__, None) is each:
            return str(each.__name__)
    return "Unknown"
