"""The zygote: a small warm process that forks our own code, so that nobody imports it twice.

The daemon has threads, an event loop and a database, and must never fork itself. Its side asks the
zygote instead, which has one thread, has imported what workers need, and answers in 2 ms:

    zygote = Zygote.start(preload=("sampan.shim.main",))
    worker = zygote.fork("sampan.shim.main:worker", payload, fds=[socket_fd])
    worker.pidfd ...                                   # POLLIN when it has ended
    worker.wait(timeout_s=5)                           # its exit status, negative for a signal

A worker is `def worker(payload: bytes, fds: list[int]) -> int`; what it returns is its exit status.
It is a child of the zygote, and starts like a fresh program: /dev/null or the given stdio, no other
fd but the given ones, default signal dispositions (SIGPIPE and SIGXFSZ stay ignored, as in any
Python program; reset them before execve), an empty signal mask, umask 022, working folder `/`, a
session of its own, and the garbage collector on. It can import nothing that the zygote has not
loaded: `ImportsRefused` is raised, because the files on disk may belong to another version by then.

Who may die. The zygote ends when the socket of its owner closes, and when it is killed; workers
live on in both cases (init or the nearest subreaper adopts them). The client then raises
Unavailable; `Zygote.restart` starts another and preloads the same modules. Exit statuses that only
the dead zygote knew are lost: `Worker.wait` raises Unavailable, but the pidfd still tells the end.

`client` is synchronous and may be called from several threads; from an event loop, call it
through a thread. `server` is what runs in the zygote, and imports nothing but `sampan.linux`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.zygote.client import Worker, Zygote
    from sampan.zygote.server import ImportsRefused

__all__ = ["ImportsRefused", "Worker", "Zygote"]

_HOMES = {"Worker": "client", "Zygote": "client", "ImportsRefused": "server"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    return getattr(__import__(f"sampan.zygote.{home}", fromlist=[name]), name)
