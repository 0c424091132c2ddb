"""Shims: starting them through the zygote, finding them again, and cleaning up behind dead ones.

The runtime listens for its shim before it is born, and hands it that listener and one end of a
socket pair that is served at once: so nobody ever waits for a socket to appear.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sampan.concurrency import to_thread
from sampan.errors import DeadlineExceeded, SampanError, Unavailable, Unimplemented
from sampan.linux.fds import unix_bind
from sampan.rpc import aio
from sampan.rpc.messages import task as pb
from sampan.rpc.messages.wellknown import Empty
from sampan.rpc.wire import Message
from sampan.runtime.bundle import Bundle

if TYPE_CHECKING:
    from sampan.zygote import Zygote

__all__ = ["OURS", "Shim", "Shims"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

OURS = "io.containerd.sampan.v2"
CLAIMED = ("", OURS, "io.containerd.runc.v2")
"""Names that we answer with our own shim; every client asks for runc's by default."""
WORKER = "sampan.shim.serve:worker"
PRELOAD = ("sampan.oci", "sampan.shim.serve", "sampan.shim.cleanup")
CLEANUP = "sampan.shim.cleanup:worker"
_TASK = "containerd.task.v2.Task"
_DEADLINE_S = 30.0
_CLEANUP_S = 10.0


class Shim:
    """A connection to the shim of a bundle."""

    def __init__(self, bundle: Bundle, connection: aio.Connection) -> None:
        self.bundle = bundle
        self._connection = connection

    @property
    def alive(self) -> bool:
        """Whether the connection stands, which a dead shim's does not."""
        return not self._connection.closed.done()

    async def call(
        self,
        method: str,
        request: Message,
        answer: type[M],
        *,
        timeout_s: float | None = _DEADLINE_S,
    ) -> M:
        """Call a method of the Task service.

        Raises:
          SampanError: as the shim answered; Unavailable when it is gone.
        """
        return await self._connection.call(_TASK, method, request, answer, timeout_s=timeout_s)

    def close(self) -> None:
        """Hang up; the shim lives on."""
        self._connection.close()


class Shims:
    """The shims below one state folder, as far as this process has spoken to them."""

    def __init__(
        self, state: Path, *, publish: str = "", exec_oci: str = "", zygote: Zygote | None = None
    ) -> None:
        self.state = state
        self.exec_oci = exec_oci
        self._publish = publish
        self._zygote = zygote
        self._given = zygote is not None
        self._starting: asyncio.Task[Zygote] | None = None
        self._open: dict[Path, Shim] = {}

    def warm(self) -> None:
        """Begin to start the zygote, so that it is ready when it is needed."""
        if self._zygote is None and self._starting is None:
            loop = asyncio.get_running_loop()
            self._starting = loop.create_task(to_thread(_start_zygote), name="zygote")

    async def zygote(self) -> Zygote:
        """Return the zygote, started if need be."""
        if self._zygote is None:
            self.warm()
            assert self._starting is not None  # noqa: S101
            try:
                self._zygote = await asyncio.shield(self._starting)
            finally:
                if self._starting.done():
                    self._starting = None
        elif not self._zygote.alive():
            await to_thread(self._zygote.restart)
        return self._zygote

    async def start(self, bundle: Bundle, runtime: str = "", *, owner_fd: int = -1) -> Shim:
        """Start a shim for a bundle.

        Raises:
          Unimplemented: the runtime is not ours.
          Unavailable: no shim could be started.
        """
        if runtime not in CLAIMED:
            # The seam for foreign shims: exec of containerd-shim-<name>-<version> with the start
            # protocol of containerd, and `connect` to the address it prints.
            raise Unimplemented(f"runtime {runtime} is not supported yet: use {OURS}")
        zygote = await self.zygote()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await to_thread(self._fork, zygote, bundle, theirs, owner_fd)
            connection = await aio.Connection.over(ours)
        except BaseException:
            ours.close()
            raise
        shim = Shim(bundle, connection)
        self._open[bundle.path] = shim
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
            }
            worker = zygote.fork(WORKER, json.dumps(values).encode(), fds, name="sampan-shim")
            with worker:
                bundle.write("shim.pid", b"%d" % worker.pid)
                bundle.write("address", f"unix://{bundle.socket}".encode())
                bundle.write("shim-start", _start_time(worker.pid).encode())

    async def connect(self, bundle: Bundle) -> Shim:
        """Return the live shim of a bundle.

        Raises:
          NotFound: there is no such task.
          Unavailable: its shim is dead; `clean_up` what it left.
        """
        shim = self._open.get(bundle.path)
        if shim is not None and shim.alive:
            return shim
        bundle.require()
        address = bundle.read("address")
        if not address:
            raise Unavailable(f"task {bundle.id} has no shim: it was never finished")
        shim = Shim(bundle, await aio.connect(address))
        self._open[bundle.path] = shim
        return shim

    def forget(self, bundle: Bundle) -> None:
        """Hang up on a bundle's shim, if there is a connection."""
        shim = self._open.pop(bundle.path, None)
        if shim is not None:
            shim.close()

    async def shut_down(self, bundle: Bundle) -> None:
        """Ask the shim to exit, and remove the bundle."""
        shim = self._open.get(bundle.path)
        if shim is not None and shim.alive:
            try:
                await shim.call("Shutdown", pb.ShutdownRequest(id=bundle.id), Empty, timeout_s=5)
            except (Unavailable, DeadlineExceeded):
                log.debug("shim hung up at shutdown: container=%s", bundle.id)
        self.forget(bundle)
        await to_thread(bundle.remove)

    async def clean_up(self, bundle: Bundle) -> None:
        """End and remove everything of a task whose shim is dead or does not answer.

        The work is the shim's own `delete`, in a fresh worker of the zygote: it kills by cgroup,
        deletes the state of the OCI runtime and unmounts.
        """
        self.forget(bundle)
        await to_thread(_kill_shim, bundle)
        zygote = await self.zygote()
        payload = json.dumps(
            {
                "namespace": bundle.namespace,
                "id": bundle.id,
                "bundle": os.fspath(bundle.path),
                "oci_root": os.fspath(self.state / "oci" / bundle.namespace),
            }
        ).encode()
        try:
            await to_thread(_run_worker, zygote, CLEANUP, payload)
        except (SampanError, TimeoutError) as err:
            log.warning("clean-up failed: container=%s: %s", bundle.id, err)
        await to_thread(bundle.remove)

    async def close(self) -> None:
        """Hang up on all shims and end our zygote; shims and containers live on."""
        for shim in list(self._open.values()):
            shim.close()
        self._open.clear()
        if self._starting is not None:
            self._zygote = await self._starting
            self._starting = None
        if self._zygote is not None and not self._given:
            await to_thread(self._zygote.close)
            self._zygote = None


def _start_zygote() -> Zygote:
    from sampan.zygote import Zygote

    return Zygote.start(PRELOAD)


def _run_worker(zygote: Zygote, target: str, payload: bytes) -> None:
    with zygote.fork(target, payload) as worker:
        status = worker.wait(_CLEANUP_S)
        if status:
            raise Unavailable(f"worker {target} ended with status {status}")


def _start_time(pid: int) -> str:
    """Return when a process started, in ticks since boot: with the pid it names it for good."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _kill_shim(bundle: Bundle) -> None:
    """Kill the bundle's shim if it still is the process that we started."""
    pid, start = bundle.read("shim.pid"), bundle.read("shim-start")
    if not pid.isascii() or not pid.isdigit() or not start:
        return
    try:
        pidfd = os.pidfd_open(int(pid))
    except OSError:
        return
    try:
        if _start_time(int(pid)) == start:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
