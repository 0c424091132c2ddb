"""Containers and their processes, as the Task service shows them."""

from __future__ import annotations

import json
import os

from sampan.errors import FailedPrecondition, NotFound
from sampan.rpc.loop import Future, Lock
from sampan.rpc.messages.types import Status
from sampan.shim.reaper import Exit
from sampan.shim.runtimes import Runtime
from sampan.shim.stdio.streams import Streams, Wanted

__all__ = ["Container", "Process"]


class Process:
    """Init, whose `exec_id` is empty, or an exec."""

    __slots__ = ("exec_id", "exit", "exited", "lock", "pid", "spec", "started", "streams", "wanted")

    def __init__(self, exec_id: str, wanted: Wanted, spec: bytes = b"") -> None:
        self.exec_id = exec_id
        self.wanted = wanted
        self.spec = spec
        self.pid = 0
        self.started = False
        self.streams: Streams | None = None
        self.exit: Exit | None = None
        """Set in the moment in which the exit event is queued, never before the start's."""
        self.exited: Future[Exit] = Future()
        self.lock = Lock()
        """Held while it starts, so that its end is told afterwards."""

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
                namespaces = json.load(file)["linux"]["namespaces"]
            return not any(each["type"] == "pid" and not each.get("path") for each in namespaces)
        except (OSError, ValueError, KeyError, TypeError):
            return False
