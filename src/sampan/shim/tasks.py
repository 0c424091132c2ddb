"""Containers and their processes, as the Task service shows them."""

from __future__ import annotations

import os

from sampan.errors import FailedPrecondition, NotFound
from sampan.model.runtime.document import loads
from sampan.rpc.loop import Future, Lock
from sampan.rpc.messages.types import Status
from sampan.shim.reaper import Exit
from sampan.shim.runtimes import Runtime
from sampan.shim.stdio.streams import Streams, Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Container", "Process"]


class Process:
    """Init, whose `exec_id` is empty, or an exec."""

    __slots__ = (
        "ended", "exec_id", "exit", "exited", "group", "lock", "pid", "spec", "started", "streams",
        "wanted",
    )  # fmt: skip

    def __init__(self, exec_id: str, wanted: Wanted, spec: bytes = b"") -> None:
        self.exec_id = exec_id
        self.wanted = wanted
        self.spec = spec
        self.pid = 0
        self.group = ""
        """See runtimes.Born."""
        self.started = False
        self.streams: Streams | None = None
        self.exit: Exit | None = None
        """Set in the moment in which the exit event is queued, never before the start's."""
        self.exited: Future[Exit] = Future()
        self.ended: Future[Exit] | None = None
        """The reaper's word, which may be earlier."""
        self.lock = Lock()
        """Held while it starts, so that its end is told afterwards."""

    def save(self) -> dict[str, Any] | None:
        """Return plain values for `restore`; None while its streams hold something."""
        streams = self.streams.save() if self.streams is not None else None
        if streams is None and self.streams is not None:
            return None
        wanted = self.wanted
        return {
            "exec_id": self.exec_id,
            "wanted": (wanted.stdin, wanted.stdout, wanted.stderr, wanted.terminal),
            "spec": b"" if self.started else self.spec,
            "pid": self.pid,
            "group": self.group,
            "started": self.started,
            "exit": (self.exit.status, self.exit.at_ns) if self.exit else None,
            "streams": streams,
        }

    @classmethod
    def restore(cls, saved: dict[str, Any]) -> Process:
        """Return the process that was saved, without its streams."""
        process = cls(saved["exec_id"], Wanted(*saved["wanted"]), saved["spec"])
        process.pid = saved["pid"]
        process.group = saved["group"]
        process.started = saved["started"]
        if saved["exit"] is not None:
            process.exit = Exit(*saved["exit"])
            process.exited.set(process.exit)
        return process

    def status(self, *, paused: bool) -> int:
        """Return a value of types.Status."""
        if self.exit is not None:
            return Status.STOPPED
        if not self.started:
            return Status.CREATED
        return Status.PAUSED if paused else Status.RUNNING


class Container:
    """One container, from Create to Delete."""

    __slots__ = ("bundle", "execs", "id", "init", "lock", "mounted", "paused", "runtime")

    def __init__(self, id: str, bundle: str, init: Process, runtime: Runtime) -> None:
        self.id = id
        self.bundle = bundle
        self.init = init
        self.runtime = runtime
        self.execs: dict[str, Process] = {}
        self.paused = False
        self.mounted = False
        self.lock = Lock()
        """Held by whatever changes the container's state."""

    @property
    def processes(self) -> list[Process]:
        """Init and the execs."""
        return [self.init, *self.execs.values()]

    def save(self) -> dict[str, Any] | None:
        """Return plain values for `Births.restore`; None while a process holds something."""
        init = self.init.save()
        execs = [each.save() for each in self.execs.values()]
        if init is None or None in execs:
            return None
        return {
            "id": self.id,
            "bundle": self.bundle,
            "paused": self.paused,
            "mounted": self.mounted,
            "runtime": self.runtime.save(),
            "init": init,
            "execs": execs,
        }

    @property
    def rootfs(self) -> str:
        """Where containerd's clients expect it."""
        return os.path.join(self.bundle, "rootfs")

    def process(self, exec_id: str) -> Process:
        """Return init or an exec.

        Raises:
          NotFound: there is no such exec.
        """
        if not exec_id:
            return self.init
        try:
            return self.execs[exec_id]
        except KeyError:
            raise NotFound(f"process does not exist {exec_id}: not found") from None

    def running(self) -> Process:
        """Return init.

        Raises:
          FailedPrecondition: it has not started, or has ended.
        """
        if self.init.exit is not None:
            raise FailedPrecondition(f"container {self.id} is stopped")
        return self.init

    def shares_pids(self) -> bool:
        """Tell whether killing init leaves others alive: no pid namespace of its own."""
        try:
            with open(os.path.join(self.bundle, "config.json"), "rb") as file:
                namespaces = loads(file.read())["linux"]["namespaces"]
            return not any(each["type"] == "pid" and not each.get("path") for each in namespaces)
        except (OSError, ValueError, KeyError, TypeError):
            return False
