"""Shims: starting them through the zygote, and finding them again.

The runtime listens for its shim before it is born, and hands it that listener and one end of a
socket pair that is served at once: so nobody ever waits for a socket to appear.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sampan.concurrency import to_thread
from sampan.concurrency.trace import trace
from sampan.errors import DeadlineExceeded, SampanError, Unavailable
from sampan.linux.fds import unix_bind
from sampan.rpc import aio
from sampan.rpc.messages import task as pb
from sampan.rpc.messages.wellknown import Empty
from sampan.rpc.wire import Message
from sampan.runtime import foreign
from sampan.runtime.bundle import Bundle, Lock, bundles
from sampan.runtime.burial import Burial, bury, clean_up, start_time

if TYPE_CHECKING:
    import asyncio

    from sampan.zygote import Zygote
    from sampan.zygote.userns import UserNamespace

__all__ = ["OURS", "Shim", "Shims"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

OURS: Final = "io.containerd.sampan.v2"
CLAIMED: Final = ("", OURS, "io.containerd.runc.v2")
"""Names that we answer with our own shim; every client asks for runc's by default."""
WORKER: Final = "sampan.shim.serve:worker"
PRELOAD: Final = ("sampan.oci", "sampan.shim.serve", "sampan.shim.cleanup")
_TASK: Final = "containerd.task.v{}.Task"
_DEADLINE_S: Final = 10.0
_SHUTDOWN_S: Final = 3.0
_LEAVE_AFTER_S: Final = 10.0
"""An exited task that nobody deletes costs no process after that; `exit` in its bundle tells."""
_CLEANUP_S: Final = 30.0


class Shim:
    """A connection to the shim of a bundle."""

    def __init__(
        self,
        bundle: Bundle,
        connection: aio.Connection,
        *,
        version: int = 2,
        log: foreign.Log | None = None,
    ) -> None:
        self.bundle = bundle
        self.leaving = False
        """Set before we hang up or shut it down: its end is no surprise then."""
        self._connection = connection
        self._service = _TASK.format(version)
        self._log = log
        connection.closed.add_done_callback(self._closed)

    @property
    def alive(self) -> bool:
        """Whether the connection stands, which a dead shim's does not."""
        return not self._connection.closed.done()

    @property
    def gone(self) -> asyncio.Future[None]:
        """Done when the connection has ended."""
        return self._connection.closed

    async def call(
        self,
        method: str,
        request: Message,
        answer: type[M],
        *,
        timeout_s: float | None = _DEADLINE_S,
        service: str = "",
    ) -> M:
        """Call a method of the Task service, or of another.

        Raises:
          SampanError: as the shim answered; Unavailable when it is gone; DeadlineExceeded.
        """
        return await self._connection.call(
            service or self._service, method, request, answer, timeout_s=timeout_s
        )

    def close(self) -> None:
        """Hang up; the shim lives on."""
        self.leaving = True
        self._connection.close()

    def _closed(self, _: object) -> None:
        if self._log is not None:
            self._log.close()


class Shims:
    """The shims below one state folder, as far as this process has spoken to them."""

    def __init__(
        self,
        state: Path,
        *,
        publish: str = "",
        exec_oci: str = "",
        zygote: Zygote | None = None,
        foreign_runtimes: Sequence[str] = (),
    ) -> None:
        """Start nothing yet.

        Args:
          state: The folder of `runtime`'s front door.
          publish: ttrpc socket that shims send their events to; empty for none.
          exec_oci: Binary that our shims exec in place of running containers in process.
          zygote: Borrowed; without one we start our own.
          foreign_runtimes: Names of ours that are left to the foreign binary all the same.
        """
        self.state = state
        self.exec_oci = exec_oci
        self.on_open: Callable[[Shim], None] | None = None
        """Told of each connection, before anybody else sees it."""
        self.closed = False
        self._publish = publish
        self._zygote = zygote
        self._given = zygote is not None
        self._userns: UserNamespace | None = None
        self._starting = threading.Lock()
        self._foreign = frozenset(foreign_runtimes)
        self._open: dict[Path, Shim] = {}
        self._warming: asyncio.Task[Zygote] | None = None

    def warm(self) -> None:
        """Begin to start the zygote, so that it is ready when it is needed."""
        import asyncio

        if self._warming is None:
            loop = asyncio.get_running_loop()
            self._warming = loop.create_task(self.zygote(), name="zygote")

    async def zygote(self) -> Zygote:
        """Return the zygote, started if need be, and anew when it has died."""
        if self._zygote is not None and self._zygote.alive():
            return self._zygote
        return await to_thread(self.zygote_blocking)

    def zygote_blocking(self) -> Zygote:
        """Do the same from a thread; takes some 60 ms the first time."""
        with self._starting:
            if self._zygote is None:
                from sampan.zygote import Zygote

                if os.geteuid():
                    self._userns = self._user_namespace()
                    names, fds = (*PRELOAD, "sampan.storage.rootless"), self._userns.fds
                    self._zygote = Zygote.start(names, namespaces=fds)
                else:
                    self._zygote = Zygote.start(PRELOAD)
            elif not self._zygote.alive():
                self._zygote.restart()
            return self._zygote

    def _user_namespace(self) -> UserNamespace:
        """Return the one that shims of ours live in, or a new one."""
        from sampan.zygote.userns import UserNamespace

        for bundle in bundles(self.state):
            pid, _, started = bundle.read("shim.pid").partition(" ")
            if pid.isascii() and pid.isdigit() and started and start_time(int(pid)) == started:
                try:
                    return UserNamespace.join(int(pid))
                except OSError as err:
                    log.debug("shim ended while we looked: pid=%s: %s", pid, err)
        return UserNamespace.create()

    async def start(
        self,
        bundle: Bundle,
        runtime: str = "",
        *,
        options: bytes = b"",
        owner_fd: int = -1,
        pod: Bundle | None = None,
    ) -> Shim:
        """Start a shim for a bundle, or take that of its pod.

        Args:
          bundle: Complete.
          runtime: Name, or absolute path of a foreign shim; "" is ours.
          options: An encoded Any, for a foreign shim's stdin.
          owner_fd: Borrowed; when it becomes readable our shim ends its task.
          pod: The bundle whose shim, one of ours, takes this task, too.

        Raises:
          NotFound: the foreign runtime's binary is not installed.
          Unavailable: no shim could be started.
        """
        if pod is not None:
            address = pod.read("address")
            if not address:
                raise Unavailable(f"sandbox {pod.id} has no shim: it was stopped")
            shim = Shim(bundle, await aio.connect(address))
            bundle.write("pod", pod.id.encode())
            bundle.write("address", address.encode())
            return self._opened(shim)
        if runtime in CLAIMED and runtime not in self._foreign:
            shim = await self._start_ours(bundle, owner_fd)
        else:
            shim = await self._start_foreign(bundle, foreign.binary_of(runtime), options)
        return self._opened(shim)

    async def _start_ours(self, bundle: Bundle, owner_fd: int) -> Shim:
        zygote = await self.zygote()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await to_thread(self._fork, zygote, bundle, theirs, owner_fd)
            return Shim(bundle, await aio.Connection.over(ours))
        except BaseException:
            ours.close()
            raise

    async def _start_foreign(self, bundle: Bundle, binary: str, options: bytes) -> Shim:
        reading = foreign.Log(bundle)
        try:
            started = await foreign.start(bundle, binary, publish=self._publish, options=options)
            connection = await aio.connect(started.address)
        except BaseException:
            reading.close()
            raise
        shim = Shim(bundle, connection, version=started.version, log=reading)
        try:
            request = pb.ConnectRequest(id=bundle.id)
            pid = (await shim.call("Connect", request, pb.ConnectResponse)).shim_pid
        except SampanError as err:
            log.debug("shim tells no pid: container=%s: %s", bundle.id, err)
            pid = 0
        # It may have written these itself, but without what tells pids apart.
        bundle.write("shim.pid", f"{pid} {start_time(pid)}".encode())
        bundle.write("task-version", b"%d" % started.version)
        bundle.write("address", os.fsencode(started.address))
        return shim

    def _fork(
        self, zygote: Zygote, bundle: Bundle, connection: socket.socket, owner_fd: int
    ) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with listener:
            bundle.socket.unlink(missing_ok=True)
            unix_bind(listener, os.fspath(bundle.socket))
            listener.listen(128)
            fds = [listener.fileno(), connection.fileno()]
            if owner_fd >= 0:
                fds.append(owner_fd)
            values = {
                "version": 1,
                "id": bundle.id,
                "namespace": bundle.namespace,
                "socket": os.fspath(bundle.socket),
                "bundle": os.fspath(bundle.path),
                "publish": self._publish,
                "oci_root": os.fspath(self.state / "oci"),
                "systemd_cgroup": False,
                "listen_fd": 0,
                "connection_fd": 1,
                "owner_fd": 2 if owner_fd >= 0 else -1,
                "log_fd": -1,
                "leave_after_s": _LEAVE_AFTER_S,
            }
            worker = zygote.fork(WORKER, json.dumps(values).encode(), fds, name="sampan-shim")
            with worker:
                # In this order: a bundle with an address can be both found and ended.
                bundle.write("shim.pid", f"{worker.pid} {start_time(worker.pid)}".encode())
                bundle.write("address", f"unix://{bundle.socket}".encode())

    async def connect(self, bundle: Bundle) -> Shim:
        """Return the live shim of a bundle.

        Raises:
          NotFound: there is no such task.
          Unavailable: its shim is dead, or not yet born: `bury` tells which.
        """
        shim = self._open.get(bundle.path)
        if shim is not None and shim.alive:
            return shim
        bundle.require()
        address = bundle.read("address")
        if not address:
            raise Unavailable(f"task {bundle.id} has no shim")
        connection = await aio.connect(address)
        there = self._open.get(bundle.path)
        if there is not None and there.alive:
            connection.close()
            return there
        version = int(bundle.read("task-version") or 2)
        reading = foreign.Log(bundle) if bundle.read(foreign.PATH_FILE) else None
        return self._opened(Shim(bundle, connection, version=version, log=reading))

    def _opened(self, shim: Shim) -> Shim:
        self._open[shim.bundle.path] = shim
        if self.on_open is not None:
            self.on_open(shim)
        return shim

    def forget(self, bundle: Bundle) -> None:
        """Hang up on a bundle's shim, if there is a connection."""
        shim = self._open.pop(bundle.path, None)
        if shim is not None:
            shim.close()

    async def shut_down(self, bundle: Bundle, *, wait_s: float = 10.0) -> bool:
        """Ask the shim, which has no task any more, to exit, and remove the bundle.

        Returns:
          Whether the bundle is gone; False when somebody holds its lock for longer than `wait_s`.
        """
        with Lock() as lock:
            try:
                # Never waits but when another process is at the same bundle.
                lock.take(bundle.path)
            except FileNotFoundError:
                return True
            except Unavailable:
                if not wait_s:
                    return False
                try:
                    await to_thread(lock.take, bundle.path, wait_s)
                except FileNotFoundError:
                    return True
            await self._end(bundle)
            trace("tasks.shut_down")
            await to_thread(bundle.remove)
        return True

    async def _end(self, bundle: Bundle) -> None:
        shim = self._open.pop(bundle.path, None)
        if shim is None or not shim.alive:
            return
        shim.leaving = True
        if bundle.read("pod"):
            shim.close()  # it lives on for the others
            return
        try:
            request = pb.ShutdownRequest(id=bundle.id)
            await shim.call("Shutdown", request, Empty, timeout_s=_SHUTDOWN_S)
        except (Unavailable, DeadlineExceeded):
            log.debug("shim hung up at shutdown: container=%s", bundle.id)
        except SampanError as err:
            log.warning("shutdown of a shim: container=%s: %s", bundle.id, err)
        shim.close()

    async def bury(self, bundle: Bundle, *, force: bool = False) -> Burial | None:
        """See `burial.bury`; the connection is dropped."""
        if force:
            self.forget(bundle)
        buried = await to_thread(self._bury, bundle, force)
        if buried is not None:
            self.forget(bundle)
        return buried

    def _bury(self, bundle: Bundle, force: bool) -> Burial | None:
        return bury(bundle, self.zygote_blocking, self.state, force=force)

    async def clean_up(self, bundle: Bundle) -> None:
        """End and remove everything of a task that was never finished; its lock is the caller's."""
        self.forget(bundle)
        await to_thread(clean_up, bundle, self.zygote_blocking, self.state)
        await to_thread(bundle.remove)

    async def close(self) -> None:
        """Hang up on all shims and end our zygote; shims and containers live on."""
        self.closed = True
        for shim in list(self._open.values()):
            shim.close()
        self._open.clear()
        warming, self._warming = self._warming, None
        if warming is not None:
            try:
                await warming
            except (SampanError, OSError) as err:
                log.debug("zygote was not started: %s", err)
        if self._zygote is not None and not self._given:
            await to_thread(self._zygote.close)
            self._zygote = None
        if self._userns is not None:
            self._userns.close()
            self._userns = None
