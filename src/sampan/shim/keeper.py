"""The keeper: the shim's own process, which holds everything and does next to nothing.

Python writes into each object that it looks at. A forked shim that serves calls makes some three
megabytes of its zygote's memory its own, and keeps them for months of idleness. So a shim is two
processes: the keeper, who is the parent and the subreaper of the containers, owns the fds, and only
waits; and a server, forked from the keeper when there is something to do, which ends when nothing
has happened for a while, and its memory with it.

    keeper -> clone3(CLONE_FILES) -> server     the very same table of fds: nothing is passed
    keeper -> pipe -> server                    pid, status and time of each process reaped
    server -> state file -> next server         what it must know, when it goes to rest
    server -> exit status RESTS                 "wake another when something happens"; any other
                                                status is the shim's end

What would wake a server is in its epoll instance, whose fd the keeper watches: a call, output of a
container, the owner's death, an OOM kill, a record in the pipe. The next server goes on with that
same instance. A server has children of its own (an exec, a logger, a runtime); those that outlive
it are the keeper's from then on.

Who may die. Without its keeper a server is killed (PR_SET_PDEATHSIG). A server that dies takes the
keeper with it: what it knew is lost, and the daemon buries the shim as one process.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import struct
import sys
import time
from collections.abc import Callable

from sampan.linux import prctl, process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["RECORD", "RESTS", "Kept", "keep"]

RESTS = 99
RECORD = struct.Struct("=iiq")
"""Of one reaped process: pid, status as `Exit` has it, nanoseconds since the epoch."""
_clone = process.prepared_clone(process.CLONE_FILES, process.SIGCHLD)
_SIGCHLD = 1 << (process.SIGCHLD - 1)


class Kept:
    """What a server is born with. The fds are the keeper's, and shared."""

    __slots__ = ("epoll_fd", "exits_fd", "keeper_pid", "state_fd")

    def __init__(self, keeper_pid: int, epoll_fd: int, exits_fd: int, state_fd: int) -> None:
        self.keeper_pid = keeper_pid
        """The shim's pid, for everyone else."""
        self.epoll_fd = epoll_fd
        self.exits_fd = exits_fd
        """Gives RECORDs; non-blocking."""
        self.state_fd = state_fd

    def state(self) -> Any:
        """Return what the last server has left; None for the first."""
        data = os.pread(self.state_fd, os.fstat(self.state_fd).st_size, 0)
        return marshal.loads(data) if data else None  # noqa: S302  our own, in our own memory file

    def rest(self, state: Any) -> NoReturn:
        """In the server: leave `state` (plain values) to the next one, and end."""
        data = marshal.dumps(state)
        os.ftruncate(self.state_fd, 0)
        os.pwrite(self.state_fd, data, 0)
        os._exit(RESTS)


def keep(serve: Callable[[Kept], int]) -> int:
    """Be a keeper until a server ends the shim; return its exit status.

    `serve` runs in a fork of this process and returns the shim's exit status, or calls `rest`.
    """
    gc.disable()
    prctl.set_child_subreaper(True)
    signals.block(process.SIGCHLD)
    sigchld = signals.signalfd(_SIGCHLD)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    epoll = select.epoll(select.EPOLL_CLOEXEC)
    kept = (os.getpid(), epoll.fileno(), reading, os.memfd_create("shim", os.MFD_CLOEXEC))
    poll = select.poll()
    poll.register(sigchld, select.POLLIN)
    server = _fork(serve, kept)
    while True:
        if not server:
            poll.register(epoll, select.POLLIN)
        poll.poll()
        if not server:
            poll.unregister(epoll)
        try:
            os.read(sigchld, 128)
        except BlockingIOError:
            if not server:
                server = _fork(serve, kept)
            continue
        while True:
            # Told before it is reaped: until then its pid is nobody else's.
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if found is None:
                break
            status = found.si_status + 128 * (found.si_code != os.CLD_EXITED)
            if found.si_pid != server:
                record = RECORD.pack(found.si_pid, status, time.time_ns())
                try:
                    os.write(writing, record)
                except BlockingIOError:
                    # Some 4,000 ends that nobody has read.
                    server = server or _fork(serve, kept)
                    _write(writing, record)
            os.waitid(os.P_PID, found.si_pid, os.WEXITED)
            if found.si_pid == server:
                if status != RESTS:
                    return status
                server = 0


def _write(fd: int, record: bytes) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()
    os.write(fd, record)


def _fork(serve: Callable[[Kept], int], kept: tuple[int, int, int, int]) -> int:
    pid = _clone()
    if pid:
        return pid
    status = 70
    try:
        prctl.set_pdeathsig(9)
        if os.getppid() == kept[0]:
            status = serve(Kept(*kept))
    except BaseException:  # noqa: BLE001  the edge of the program
        # The C implementation; the `traceback` module would have to be imported.
        sys.__excepthook__(*sys.exc_info())
    finally:
        os._exit(status & 0xFF)
