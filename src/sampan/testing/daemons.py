"""Daemons that speak containerd's API: ours, Debian's containerd 1.6, and a current one.

    with Daemon("sampand", folder) as daemon:        # or "containerd", or "containerd-2"
        daemon.ok("image", "ls")                     # a ctr of the same age
        daemon.client().call("version.v1.Version/Version", Empty(), pb.VersionResponse)

`containerd-2` and `ctr-2` are links on PATH to binaries built from the Go module
github.com/containerd/containerd/v2, cmd/containerd and cmd/ctr, in one folder with its
cmd/containerd-shim-runc-v2. Each daemon has root, state and
sockets below `folder`, knows our shim as io.containerd.sampan.v2, and ends with the block; what its
tasks left is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import sampan
from sampan.testing.requirements import require

__all__ = ["Client", "Daemon", "masked", "requirements", "tiny_archive"]

_START_S: Final = 30.0
_STOP_S: Final = 20.0
_CTR_S: Final = 60.0
_TASKS: Final = "state/io.containerd.runtime.v2.task"

_CONFIGS: Final = {
    "containerd": (
        'version = 2\nroot = "{0}/root"\nstate = "{0}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        '[grpc]\naddress = "{0}/d.sock"\n[ttrpc]\naddress = "{0}/d.sock.ttrpc"\n'
    ),
    "containerd-2": (
        'version = 3\nroot = "{0}/root"\nstate = "{0}/state"\n'
        'disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",'
        ' "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri",'
        ' "io.containerd.podsandbox.controller.v1.podsandbox"]\n'
        '[grpc]\naddress = "{0}/d.sock"\n[ttrpc]\naddress = "{0}/d.sock.ttrpc"\n'
    ),
}


def requirements(kind: str) -> tuple[str, ...]:
    """Return what a daemon of `kind` needs of the machine: for `require`."""
    return {
        "sampand": ("root",),
        "containerd": ("root", "containerd", "containerd-shim-runc-v2", "runc"),
        "containerd-2": ("root", "containerd-2"),
    }[kind]


class Daemon:
    """One daemon, started by the block or by `start`."""

    def __init__(self, kind: str, folder: Path, *flags: str) -> None:
        """Prepare a daemon of `kind` below `folder`, a short path."""
        require(*requirements(kind))
        self.kind = kind
        self.folder = folder
        self.address = folder / "d.sock"
        self.log = folder / "log"
        self.flags = flags
        self.ctr_program = "ctr-2" if kind == "containerd-2" else "ctr"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Return the pid of the daemon, which must run."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and return when it serves."""
        argv, path = self._command()
        notify = self.folder / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("ab") as log:
            ready.bind(str(notify))
            env = {**os.environ, "NOTIFY_SOCKET": str(notify), "PATH": path}
            self._process = subprocess.Popen(
                argv, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
            pidfd = os.pidfd_open(self._process.pid)
            try:
                readable = select.select([ready.fileno(), pidfd], [], [], _START_S)[0]
            finally:
                os.close(pidfd)
            served = ready.fileno() in readable
        assert served, f"{self.kind} did not start: {self.log.read_text()[-3000:]}"

    def _command(self) -> tuple[list[str], str]:
        path = os.environ.get("PATH", os.defpath)
        if self.kind == "sampand":
            argv = [
                *(sys.executable, "-m", "sampan.daemon.main"),
                *("--root", str(self.folder / "root"), "--state", str(self.folder / "state")),
                *("--address", str(self.address), "--log-level", "info", *self.flags),
            ]
            return argv, path
        config = self.folder / "config.toml"
        config.write_text(_CONFIGS[self.kind].format(self.folder))
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        shim = programs / "containerd-shim-sampan-v2"
        source = Path(sampan.__file__).parent.parent
        shim.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {str(source)!r})\n"
            "from sampan.shim.main import main\nsys.exit(main())\n"
        )
        shim.chmod(0o755)
        program = shutil.which(self.kind) or self.kind
        if self.kind == "containerd-2":
            # An older containerd's shim does not understand how it starts one.
            path = f"{Path(program).resolve().parent}:{path}"
        level = "info" if self.kind == "containerd-2" else "warn"
        return [program, "-c", str(config), "-l", level, *self.flags], f"{programs}:{path}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it; return its exit status."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        return process.wait(_STOP_S)

    def ctr(
        self, *words: str, input: str | None = None, namespace: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run ctr against it."""
        scope = ("-n", namespace) if namespace else ()
        return subprocess.run(
            [self.ctr_program, "-a", str(self.address), *scope, *words],
            capture_output=True,
            text=True,
            errors="replace",
            input=input,
            timeout=_CTR_S,
            check=False,
        )

    def ok(self, *words: str, input: str | None = None, namespace: str = "") -> str:
        """Do so and return its output; it must succeed."""
        done = self.ctr(*words, input=input, namespace=namespace)
        log = self.log.read_text("utf-8", "replace")[-3000:]
        assert done.returncode == 0, f"{self.kind}: ctr {words}: {done.stderr}\n{log}"
        return done.stdout

    def client(self) -> Client:
        """Return a plain gRPC client; close it."""
        return Client(self.address)

    def shims(self) -> list[int]:
        """Return the pids of its tasks' shims."""
        files = (self.folder / _TASKS).glob("*/*/shim.pid")
        return [int(file.read_text().split()[0]) for file in files]

    def close(self) -> None:
        """End it, its shims and their tasks; idempotent."""
        if self._process is not None:
            self._remove_tasks()
            try:
                self.stop()
            except subprocess.TimeoutExpired:  # pragma: no cover - a defect of the peer
                assert self._process is None
        for pid in self.shims():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _remove_tasks(self) -> None:
        for task in (self.folder / _TASKS).glob("*/*"):
            if not task.name.startswith("."):
                self.ctr("task", "rm", "-f", task.name, namespace=task.parent.name)


class Client:
    """Calls methods by name: `images.v1.Images/Get`, of the packages below containerd.services."""

    def __init__(self, address: Path) -> None:
        """Connect to the socket `address`."""
        import grpc  # type: ignore[import-untyped]

        self._grpc = grpc
        self.channel = grpc.insecure_channel(f"unix:{address}")
        grpc.channel_ready_future(self.channel).result(_START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(
        self,
        method: str,
        request: Any,
        answer: Any,
        namespace: str = "test",
        *,
        timeout_s: float = 20,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Call a unary method; grpc.RpcError if it fails."""
        return self._do("unary_unary", method, request, answer, namespace, timeout_s, headers)

    def listed(
        self, method: str, request: Any, answer: Any, namespace: str = "test", **more: Any
    ) -> list[Any]:
        """Return all answers of a method that streams them."""
        timeout_s, headers = more.get("timeout_s", 20), more.get("headers")
        return list(
            self._do("unary_stream", method, request, answer, namespace, timeout_s, headers)
        )

    def stream(
        self,
        method: str,
        requests: Iterable[Any],
        answer: Any,
        namespace: str = "test",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the call of a method that streams both ways: iterate over it, or cancel it."""
        return self._do("stream_stream", method, iter(requests), answer, namespace, 60, headers)

    def failed(self, method: str, request: Any, answer: Any, **more: Any) -> tuple[str, str]:
        """Return name of the code and text of a unary call's error; "OK" where there is none."""
        try:
            self.call(method, request, answer, **more)
        except self._grpc.RpcError as err:
            return err.code().name, err.details() or ""
        return "OK", ""

    def code_of(self, call: Any) -> str:
        """Return the name of the code that a streaming call ends with."""
        try:
            for _ in call:
                pass
        except self._grpc.RpcError as err:
            return str(err.code().name)
        return "OK"

    def _do(
        self,
        kind: str,
        method: str,
        request: Any,
        answer: Any,
        namespace: str,
        timeout_s: float,
        headers: Mapping[str, str] | None,
    ) -> Any:
        path = method if method.startswith("/") else f"/containerd.services.{method}"
        bound = getattr(self.channel, kind)(
            path,
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        metadata = [("containerd-namespace", namespace)] if namespace else []
        return bound(request, metadata=[*metadata, *(headers or {}).items()], timeout=timeout_s)


def tiny_archive(folder: Path, name: str = "example.com/tool:1") -> Path:
    """Make a docker archive of an image whose one layer is bin/tool; return its path."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, "bin/tool", b"#!/bin/sh\n", 0o755)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    config = {"architecture": _ARCHITECTURES[os.uname().machine], "os": "linux", "rootfs": rootfs}
    items = [{"Config": "c.json", "RepoTags": [name], "Layers": ["l/layer.tar"]}]
    with tarfile.open(folder / "tiny.tar", "w") as tar:
        _add(tar, "c.json", json.dumps(config).encode())
        _add(tar, "l/layer.tar", layer.getvalue())
        _add(tar, "manifest.json", json.dumps(items).encode())
    return folder / "tiny.tar"


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_MASKS: Final[Sequence[tuple[str, str]]] = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.]*( ?[+-]\d{4} UTC|Z|[+-]\d\d:\d\d)?", "TIME"),
    (r"(Less than a second|About a minute|\d+ (second|minute)s?)( ago)?", "AGE"),
    (r"(elapsed|took|in):? *[0-9.]+ ?m?s", r"\1 TIME"),
    (r"[0-9.]+ [KM]iB?/s", "RATE"),
)


def masked(text: str, *more: tuple[str, str]) -> str:
    """Return the output of a command with what differs from run to run taken out.

    Blanks are joined, since columns are as wide as what was taken out.
    """
    for pattern, instead in (*_MASKS, *more):
        text = re.sub(pattern, instead, text)
    # Maps come in any order.
    text = re.sub(r"\S+=\S*,\S+=\S*", lambda match: ",".join(sorted(match[0].split(","))), text)
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)
