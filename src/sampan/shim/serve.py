"""The server: from a Config to the exit of the shim."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

from sampan import oci
from sampan.linux.prctl import set_name
from sampan.rpc.loop import IN, Loop
from sampan.rpc.messages import sampan, sandbox, task
from sampan.rpc.messages.wellknown import Empty
from sampan.rpc.server import Context, Method, Server
from sampan.rpc.wire import Message
from sampan.shim.config import Config
from sampan.shim.farewell import Farewell
from sampan.shim.keeper import Kept, keep
from sampan.shim.oom import OomWatch
from sampan.shim.processes import Processes
from sampan.shim.publisher import Publisher
from sampan.shim.reaper import Reaper
from sampan.shim.rest import Rest
from sampan.shim.sandbox import SandboxService
from sampan.shim.service import TaskService
from sampan.shim.sockets import bind

# A shim refuses imports after its fork: whoever loads this module loads all that it needs.
oci.preload()

__all__ = ["Log", "run", "worker"]

_OOM_MAX = 1000
_PUBLISH_S = 5.0
_LINGER_S = 10.5


def worker(payload: bytes, fds: list[int]) -> int:
    """Be a shim, in a process that the zygote has just forked; returns its exit status.

    Takes ownership of all `fds`.
    """
    return keep(lambda kept: run(Config.from_json(payload), fds, kept=kept))


def _be_less_precious(keeper: int) -> None:
    """Take the OOM score of the zygote, which is the daemon's, plus one; before any child is born.

    Containers without a score of their own inherit it, as they do from containerd's shims. The
    first server does it for its keeper, too: whatever that does itself, it keeps in memory.
    """
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDONLY | os.O_CLOEXEC)
        try:
            score = b"%d" % min(_OOM_MAX, int(os.read(fd, 16)) + 1)
        finally:
            os.close(fd)
        for path in (f"/proc/{keeper}/oom_score_adj", "/proc/self/oom_score_adj"):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, score)
            finally:
                os.close(fd)
    except (OSError, ValueError):
        return  # an unusual /proc: nothing depends on it


class Log:
    """Lines for whoever reads the daemon's log of us; never blocks, never fails."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        if fd >= 0:
            os.set_blocking(fd, False)

    def error(self, error: BaseException) -> None:
        """Write an error with its traceback, on one line."""
        if self._fd < 0:
            return
        text = _traceback(error)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            os.write(self._fd, f'time="{stamp}" level=error msg="shim: {text!r}"\n'.encode())
        except OSError:
            self._fd = -1


def _traceback(error: BaseException) -> str:
    """Return where and what; `traceback` would load a tokenizer into every zygote."""
    lines = []
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append(f"{code.co_filename}:{at.tb_lineno} in {code.co_name}")
        at = at.tb_next
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines.append(f"{type(error).__name__}: {error}")
    if cause is not None:
        lines.append(f"after {_traceback(cause)}")
    return "\n".join(lines)


def run(
    config: Config,
    fds: Sequence[int],
    listener: socket.socket | None = None,
    *,
    kept: Kept | None = None,
) -> int:
    """Serve until Shutdown, or until the owner dies; with `kept`, until there is nothing to do.

    With `listener` its socket is used, in place of binding `config.socket`.
    """
    set_name("sampan-shim")
    gc.disable()
    state = kept.state() if kept is not None else None
    if kept is not None and state is None:
        _be_less_precious(kept.keeper_pid)

    def given(place: int) -> int:
        return fds[place] if place >= 0 else -1

    log = Log(given(config.log_fd))
    loop = Loop(kept.epoll_fd if kept is not None else -1)
    loop.on_error = log.error
    reaper = Reaper(loop, kept.exits_fd if kept is not None else -1)
    processes = Processes(loop, reaper)
    publisher = Publisher(loop, config.publish, config.namespace)
    tasks = TaskService(config, processes, publisher)
    tasks.oom = OomWatch(loop, publisher)
    table = tasks.methods()
    sandboxes = SandboxService(loop, tasks, publisher)
    tasks.kept = lambda: sandboxes.wanted
    services = dict.fromkeys(task.SERVICES, table)
    services[sandbox.SERVICE] = sandboxes.methods()
    services[sampan.SERVICE] = {"ReopenLogs": Method(sampan.ReopenLogsRequest, _reopen_logs(tasks))}
    server = Server(loop, services)
    if state is not None:
        listener = None
    elif config.listen_fd >= 0:
        listener = socket.socket(fileno=given(config.listen_fd))
    elif listener is None and config.socket:
        listener = socket.socket(fileno=bind(config.socket).detach())
    if listener is not None:
        server.listen(listener)
    if config.connection_fd >= 0 and state is None:
        server.serve(socket.socket(fileno=given(config.connection_fd)))
    ending = _Ending(config, loop, tasks, publisher, server)
    tasks.shutdown = ending.begin
    if config.connection_fd >= 0:
        # Who bore us has died between two calls, before its container came or after it went: nobody
        # knows of us, and nobody would ever ask us to end.
        server.on_alone = lambda: ending.begin() if tasks.idle and not sandboxes.wanted else None
    farewell = None
    if config.leave_after_s > 0:
        farewell = Farewell(loop, tasks, publisher, ending.begin, config.leave_after_s)
        tasks.on_ended = farewell.ended
    if config.owner_fd >= 0:
        owner = given(config.owner_fd)
        loop.watch(owner, IN, lambda _events: ending.owner_died(owner))
    if kept is not None:
        tasks.pid = kept.keeper_pid
        rest = Rest(kept, loop, server, reaper, publisher, tasks, sandboxes, idle_s=config.rest_s)
        rest.begin(state)
        if farewell is not None and tasks.all_ended():
            farewell.consider()
    loop.run()
    loop.close()
    return 0


def _reopen_logs(
    tasks: TaskService,
) -> Callable[[sampan.ReopenLogsRequest, Context], Awaitable[Message]]:
    async def reopen(request: sampan.ReopenLogsRequest, _: Context) -> Message:
        tasks.reopen_logs(request.id, request.exec_id)
        return Empty()

    return reopen


class _Ending:
    """Shutdown, in its order: no new connections, events out, last output out, exit."""

    def __init__(
        self,
        config: Config,
        loop: Loop,
        tasks: TaskService,
        publisher: Publisher,
        server: Server,
    ) -> None:
        self._config = config
        self._loop = loop
        self._tasks = tasks
        self._publisher = publisher
        self._server = server
        self._begun = False

    def begin(self) -> None:
        """End soon; harmless twice."""
        if not self._begun:
            self._begun = True
            self._loop.spawn(self._end())

    def owner_died(self, owner: int) -> None:
        """Leave nothing behind."""
        self._loop.unwatch(owner)

        async def leave() -> None:
            await self._tasks.kill_all()
            self.begin()

        self._loop.spawn(leave())

    def _remove_socket(self) -> None:
        if self._config.socket:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._config.socket)

    async def _end(self) -> None:
        self._server.stop_listening()
        self._remove_socket()
        until_s = time.monotonic() + _LINGER_S
        await self._publisher.drain(_PUBLISH_S)
        while self._tasks.draining() and time.monotonic() < until_s:
            await self._loop.sleep(0.02)
        self._server.close()
        self._publisher.close()
        self._loop.stop()
