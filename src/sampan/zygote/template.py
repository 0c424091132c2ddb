"""The template: a copy of the zygote that does nothing but fork, so that all workers share it.

A page that the zygote writes between two forks is one more that the worker before does not share
any longer; and Python writes wherever it looks. So the zygote, who receives, answers and reaps, has
a child who has done all that every worker begins with (signals, umask, folder, imports refused) and
then only reads a byte and clones. The workers are the zygote's children (CLONE_PARENT).

    zygote -> socket -> worker      the message of its birth, with fds; sent before
    zygote -> pipe -> template      a byte: clone
    worker -> socket -> zygote      its pid

A template that ends, or cannot clone, closes its end of the socket: the zygote then forks the
worker itself, and gets the kernel's own error.
"""

from __future__ import annotations

import _socket
import os
import sys

from sampan.linux import fds as fdlib
from sampan.linux import prctl, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Template"]


class Template:
    """The zygote's end."""

    def __init__(self, pid: int, connection: _socket.socket, trigger: int) -> None:
        self.pid = pid
        self._connection = connection
        self._trigger = trigger

    @classmethod
    def start(
        cls, prepare: Callable[[], None], serve: Callable[[_socket.socket], None]
    ) -> Template:
        """Fork a template; in it `prepare()` runs once, in each worker `serve(socket)`.

        Neither `serve` nor what `prepare` raises may return to the caller.
        """
        ours, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        reading, writing = os.pipe()
        pid, _ = process.clone3(pidfd=False)
        if pid == 0:
            try:
                ours.close()
                fdlib.close_all_but([0, 1, 2, theirs.fileno(), reading])
                prctl.set_name("sampan-template")
                prepare()
                _run(reading, theirs, serve)
            except BaseException:  # noqa: BLE001  the edge of the program
                sys.__excepthook__(*sys.exc_info())
            finally:
                os._exit(70)
        os.close(reading)
        theirs.close()
        return cls(pid, ours, writing)

    def fork(self, message: bytes, fds: Sequence[int]) -> int:
        """Have a worker born; return its pid, or 0 when the template is gone."""
        try:
            fdlib.send_fds(self._connection, message, fds)
            os.write(self._trigger, b".")
            answer = self._connection.recv(16)
        except OSError:
            return 0
        return int(answer) if answer else 0

    def close(self) -> None:
        """Let it end."""
        os.close(self._trigger)
        self._connection.close()


def _run(trigger: int, connection: _socket.socket, serve: Callable[[_socket.socket], None]) -> None:
    clone = process.prepared_clone(process.CLONE_PARENT)
    read = os.read
    while read(trigger, 1):
        if not clone():
            os.close(trigger)
            serve(connection)
            os._exit(70)
    os._exit(0)
