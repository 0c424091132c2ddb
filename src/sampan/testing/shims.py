"""Driving a shim over ttrpc with our own codec: forked by a zygote, or exec'd as containerd does.

    with Shims("fork", folder) as shims:              # or "exec", or "exec-oci": see ENTRIES
        shim = shims.start(bundle)
        shim.create(bundle); shim.start(id)
        shim.run(id, "echo", "hello")                 # exec: (status, output)
        shim.kill(id); shim.wait(id).exit_status; shim.delete(id)

What a `Shims` made it also ends: `close` kills and deletes what is left in each shim, lets it shut
down, and checks that it went and that no state is left in `folder`/oci.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any as Untyped
from typing import Self

from sampan.errors import NotFound, SampanError
from sampan.rpc.client import Client
from sampan.rpc.messages import runc, task
from sampan.rpc.messages.bootstrap import BootstrapParams, BootstrapResult
from sampan.rpc.messages.wellknown import Any
from sampan.shim.config import Config
from sampan.testing.bundle import Bundle
from sampan.zygote import Zygote

__all__ = ["ENTRIES", "PRELOAD", "Shim", "Shims", "holder"]

ENTRIES = ("fork", "exec", "exec-oci")
"""Zygote and runtime in process; containerd-shim-sampan-v2; the same, which execs sampan-oci."""

PRELOAD = ("sampan.oci", "sampan.shim.preloaded", "sampan.shim.cleanup")
_WORKER = "sampan.shim.serve:worker"
_SERVICE = "containerd.task.v2.Task"
_NAMESPACE = "birth"
_TIMEOUT_S = 30.0


class Shim:
    """One shim, by its socket; `pidfd` is ours, and readable when it has ended."""

    def __init__(self, path: str, oci_root: Path, binary: str, log: Path) -> None:
        self.path = path
        self.oci_root = oci_root / _NAMESPACE
        self._root = oci_root
        self._binary = binary
        self._log = log
        self.client = Client.connect(path)
        self.pid = int(self.call("Connect").shim_pid)
        self.pidfd = os.pidfd_open(self.pid)
        self._bundles: dict[str, Bundle] = {}
        self._processes: dict[str, dict[str, Untyped]] = {}
        self._execs = 0

    def call(self, method: str, **fields: object) -> Untyped:
        """Call a method of the Task service.

        Raises:
          SampanError: what the shim answers, or that it is gone.
        """
        request, answer = task.METHODS[method]
        message = request(**fields)
        return self.client.call(_SERVICE, method, message, answer, timeout_s=_TIMEOUT_S)

    def create(self, bundle: Bundle, *args: str, **changes: Untyped) -> int:
        """Create a container with output in `bundle.path`/{stdout,stderr}; return init's pid."""
        config = bundle.with_changes(args, **changes)
        bundle.write(config)
        self._bundles[bundle.id] = bundle
        self._processes[bundle.id] = config["process"]
        options = runc.Options(binary_name=self._binary, root=str(self._root))
        made = self.call(
            "Create", id=bundle.id, bundle=str(bundle.path), options=Any.pack(options),
            stdout=f"file://{bundle.path}/stdout", stderr=f"file://{bundle.path}/stderr",
        )  # fmt: skip
        return int(made.pid)

    def start(self, id: str) -> None:
        self.call("Start", id=id)

    def launch(self, bundle: Bundle, *args: str, **changes: Untyped) -> int:
        """Create and start; return init's pid."""
        pid = self.create(bundle, *args, **changes)
        self.start(bundle.id)
        return pid

    def begin(self, id: str, *args: str) -> str:
        """Start an exec and return its id."""
        self._execs += 1
        exec_id = f"e{self._execs}"
        process = {**self._processes[id], "args": args}
        output = f"file://{self._bundles[id].path}/{exec_id}"
        spec = Any(value=json.dumps(process).encode())
        self.call("Exec", id=id, exec_id=exec_id, spec=spec, stdout=output, stderr=output)
        self.call("Start", id=id, exec_id=exec_id)
        return exec_id

    def finish(self, id: str, exec_id: str) -> tuple[int, str]:
        """Wait for an exec, delete it, and return its status and its output."""
        status = int(self.call("Wait", id=id, exec_id=exec_id).exit_status)
        self.call("Delete", id=id, exec_id=exec_id)
        return status, (self._bundles[id].path / exec_id).read_text()

    def run(self, id: str, *args: str) -> tuple[int, str]:
        """Run a process in a container; return its status and its output."""
        return self.finish(id, self.begin(id, *args))

    def status(self, id: str) -> int:
        """Return one of `types.Status`."""
        return int(self.call("State", id=id).status)

    def kill(self, id: str, number: int = signal.SIGKILL, *, all: bool = False) -> None:
        self.call("Kill", id=id, signal=number, all=all)

    def wait(self, id: str) -> Untyped:
        return self.call("Wait", id=id)

    def delete(self, id: str) -> Untyped:
        deleted = self.call("Delete", id=id)
        del self._bundles[id]
        return deleted

    def end(self, id: str) -> None:
        """Kill, wait and delete; what has never been created is passed over."""
        with contextlib.suppress(NotFound):
            self.call("State", id=id)
            with contextlib.suppress(NotFound):
                self.call("Kill", id=id, signal=9, all=True)
            self.call("Wait", id=id)
            self.call("Delete", id=id)

    def ended(self, timeout_s: float = 20) -> bool:
        """Wait for the shim's own end."""
        return bool(select.select([self.pidfd], [], [], timeout_s)[0])

    def log(self) -> str:
        """Return what the shim has logged."""
        return self._log.read_text()

    def close(self) -> None:
        """End the containers that are left, and the shim.

        Raises:
          AssertionError: it did not end, or left state behind.
        """
        try:
            if not self.ended(0):
                for name in list(self._bundles):
                    self.end(name)
                with contextlib.suppress(SampanError):
                    self.call("Shutdown", now=True)
            self.client.close()
            assert self.ended(), f"shim {self.pid} does not end"
            assert self.log() == "", "the shim met errors that it did not expect"
        finally:
            os.close(self.pidfd)


class Shims:
    """A way to start shims, with their state in `folder`."""

    def __init__(self, entry: str, folder: Path, zygote: Zygote | None = None) -> None:
        self.entry = entry
        self.oci_root = folder / "oci"
        self._sockets = folder / "s"
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._shims: list[Shim] = []
        self._given = zygote is not None
        self.zygote = zygote or (Zygote.start(PRELOAD) if entry == "fork" else None)
        self._binary = str(_oci_program(folder)) if entry == "exec-oci" else ""

    def start(self, bundle: Bundle) -> Shim:
        """Start a shim, whose first container `bundle` is to be."""
        path = self._fork(bundle) if self.entry == "fork" else self._exec(bundle)
        shim = Shim(path, self.oci_root, self._binary, bundle.path / "log")
        self._shims.append(shim)
        return shim

    def _fork(self, bundle: Bundle) -> str:
        assert self.zygote is not None
        path = str(self._sockets / bundle.id)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(16)
            config = Config(
                id=bundle.id, namespace=_NAMESPACE, socket=path, bundle=str(bundle.path),
                oci_root=str(self.oci_root), listen_fd=0, log_fd=1,
            )  # fmt: skip
            with open(bundle.path / "log", "ab") as log:
                fds = [listener.fileno(), log.fileno()]
                self.zygote.fork(_WORKER, config.to_json(), fds).close()
        return path

    def _exec(self, bundle: Bundle) -> str:
        bundle.write()
        (bundle.path / "log").touch()
        params = BootstrapParams(
            instance_id=bundle.id, namespace=_NAMESPACE, socket_dir=str(self._sockets)
        )
        flags = ["-namespace", _NAMESPACE, "-id", bundle.id, "-address", str(self._sockets)]
        started = subprocess.run(
            [sys.executable, "-m", "sampan.shim.main", *flags, "start"],
            cwd=bundle.path, input=bytes(params), capture_output=True, timeout=_TIMEOUT_S,
            env={**os.environ, "TTRPC_ADDRESS": ""}, check=False,
        )  # fmt: skip
        assert started.returncode == 0, started.stderr.decode()
        return BootstrapResult.decode(started.stdout).address.removeprefix("unix://")

    def close(self) -> None:
        """End everything that was started.

        Raises:
          AssertionError: something is left.
        """
        try:
            for shim in self._shims:
                shim.close()
        finally:
            if self.zygote is not None and not self._given:
                self.zygote.close()
        left = [str(path) for path in self.oci_root.glob("*/*")]
        assert left == [], "state of containers is left"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _oci_program(folder: Path) -> Path:
    """Write sampan-oci as a program, whether or not it is installed."""
    program = folder / "sampan-oci"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sampan.oci "$@"\n')
    program.chmod(0o755)
    return program


def holder(payload: bytes, fds: list[int]) -> int:
    """Worker of a zygote: hold the namespaces that it was born in, its loopback up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        up = struct.pack("16sH14x", b"lo", 1)
        fcntl.ioctl(control.fileno(), 0x8914, up)  # SIOCSIFFLAGS, IFF_UP
    os.write(fds[0], b"up")
    os.close(fds[0])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of the pid namespace come to its init
    while True:
        signal.pause()
