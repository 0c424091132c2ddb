"""A shim over ttrpc, as the daemon drives it, beside runc's own command line."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.measure import Figures, Interleaved, Row
from bench.stage import Stage, state_folder
from sampan.rpc.client import Client
from sampan.rpc.messages import task
from sampan.rpc.messages.wellknown import Any, Empty
from sampan.shim.config import Config
from sampan.testing import Bundle
from sampan.zygote import Zygote

_SERVICE = "containerd.task.v2.Task"
_PRELOAD = ("sampan.oci", "sampan.shim.serve")


def rows(stage: Stage) -> Iterator[Row]:
    with Zygote.start(preload=_PRELOAD) as zygote:
        yield _life(stage, zygote)
        yield _exec(stage, zygote)


class Shim:
    """A shim that we have had forked, and the container in it."""

    def __init__(self, client: Client, bundle: Bundle) -> None:
        self._client = client
        self.bundle = bundle
        self._execs = 0

    def create(self, *args: str) -> None:
        self.bundle.write(self.bundle.with_changes(args))
        request = task.CreateTaskRequest(id=self.bundle.id, bundle=str(self.bundle.path))
        self._client.call(_SERVICE, "Create", request, task.CreateTaskResponse)

    def start(self, exec_id: str = "") -> None:
        request = task.StartRequest(id=self.bundle.id, exec_id=exec_id)
        self._client.call(_SERVICE, "Start", request, task.StartResponse)

    def wait(self, exec_id: str = "") -> int:
        request = task.WaitRequest(id=self.bundle.id, exec_id=exec_id)
        return self._client.call(_SERVICE, "Wait", request, task.WaitResponse).exit_status

    def delete(self, exec_id: str = "") -> None:
        request = task.DeleteRequest(id=self.bundle.id, exec_id=exec_id)
        self._client.call(_SERVICE, "Delete", request, task.DeleteResponse)

    def kill(self) -> None:
        request = task.KillRequest(id=self.bundle.id, signal=9, all=True)
        self._client.call(_SERVICE, "Kill", request, Empty)

    def exec(self, *args: str) -> int:
        self._execs += 1
        name = f"e{self._execs}"
        process = json.dumps(self.bundle.with_changes(args)["process"]).encode()
        spec = Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Process",
                   value=process)  # fmt: skip
        request = task.ExecProcessRequest(id=self.bundle.id, exec_id=name, spec=spec)
        self._client.call(_SERVICE, "Exec", request, Empty)
        self.start(name)
        status = self.wait(name)
        self.delete(name)
        return status

    def shut_down(self) -> None:
        request = task.ShutdownRequest(id=self.bundle.id)
        self._client.call(_SERVICE, "Shutdown", request, Empty)


@contextmanager
def _shim(stage: Stage, zygote: Zygote) -> Iterator[Shim]:
    bundle = stage.bundle()
    ours, theirs = socket.socketpair()
    with theirs:
        config = Config(
            id=bundle.id, namespace="bench", oci_root=str(state_folder()), connection_fd=0
        )
        worker = zygote.fork("sampan.shim.serve:worker", config.to_json(), [theirs.fileno()])
    with worker, Client(ours) as client:
        shim = Shim(client, bundle)
        try:
            yield shim
        finally:
            shim.shut_down()
            worker.wait(30)


def _life(stage: Stage, zygote: Zygote) -> Row:
    """Fork of the shim included; its exit is off the caller's path there and here."""

    def ours() -> Figures:
        began = time.perf_counter()
        with _shim(stage, zygote) as shim:
            shim.create("true")
            shim.start()
            assert shim.wait() == 0
            shim.delete()
            return {"life": (time.perf_counter() - began) * 1000}

    runc = stage.runtimes["runc"]

    def theirs() -> Figures:
        began = time.perf_counter()
        bundle = stage.bundle()
        runc.create(bundle, "true")
        runc.start(bundle.id)
        runc.wait(bundle.id)
        runc.delete(bundle.id)
        return {"life": (time.perf_counter() - began) * 1000}

    programs = {"shim, forked": ours, "runc": theirs}
    done = Interleaved(programs, stage.options.count(20)).run()
    name = "fork of a shim, create+start+wait+delete"
    return Row(name, "ms", "shim, forked", "runc", done.taken("life"))


def _exec(stage: Stage, zygote: Zygote) -> Row:
    runc = stage.runtimes["runc"]
    container = runc.create(stage.bundle(), "sleep", "100000")
    runc.start(container)
    with _shim(stage, zygote) as shim:
        shim.create("sleep", "100000")
        shim.start()

        def ours() -> Figures:
            began = time.perf_counter()
            assert shim.exec("true") == 0
            return {"exec": (time.perf_counter() - began) * 1000}

        def theirs() -> Figures:
            return {"exec": runc.exec(container, "true").elapsed_s * 1000}

        done = Interleaved({"shim": ours, "runc": theirs}, stage.options.count(40)).run()
        shim.kill()
        shim.wait()
        shim.delete()
    runc.kill(container)
    runc.wait(container)
    runc.delete(container)
    return Row("exec in a running container, warm", "ms", "shim", "runc", done.taken("exec"), 0.25)
