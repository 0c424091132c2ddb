"""A shim of any kind as a program, with a bundle and somebody who hears its events."""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.errors import SampanError
from sampan.linux.process import pidfd_open, pidfd_wait
from sampan.rpc.client import Client
from sampan.rpc.loop import IN, Loop
from sampan.rpc.messages import runc, task
from sampan.rpc.messages.events import SERVICE as EVENTS
from sampan.rpc.messages.events import ForwardRequest
from sampan.rpc.messages.types import Envelope
from sampan.rpc.messages.wellknown import Any, Empty
from sampan.rpc.server import Context, Method, Server
from sampan.rpc.wire import Message
from sampan.shim.config import Config
from sampan.testing import unique_name
from sampan.zygote import Zygote

SERVICE = "containerd.task.v2.Task"


class Hearer:
    """containerd's side of events: a ttrpc server in a thread; `listen` and `close` at will."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Envelope] = []
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wake = -1

    def listen(self) -> None:
        ready, self._wake = os.pipe()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        loop = Loop()
        server = Server(loop, {EVENTS: {"Forward": Method(ForwardRequest, self._forward)}})
        server.listen(listener)
        loop.watch(ready, IN, lambda _events: loop.stop())

        def serve() -> None:
            loop.run()
            server.close()
            loop.close()
            os.close(ready)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    async def _forward(self, request: ForwardRequest, _: Context) -> Message:
        assert request.envelope is not None
        with self._news:
            self.heard.append(request.envelope)
            self._news.notify_all()
        return Empty()

    def topics(self, last: str, timeout_s: float = 15) -> list[str]:
        """Return all topics heard, once `last` is among them."""

        def there() -> bool:
            return any(each.topic == last for each in self.heard)

        with self._news:
            assert self._news.wait_for(there, timeout_s), [each.topic for each in self.heard]
            return [each.topic for each in self.heard]

    def close(self) -> None:
        if self._thread is not None:
            os.write(self._wake, b"x")
            self._thread.join()
            os.close(self._wake)
            self._thread = None
            self.path.unlink()


def make_bundle(folder: Path, *args: str) -> None:
    """Write a bundle around busybox."""
    (folder / "rootfs/bin").mkdir(parents=True)
    (folder / "rootfs/proc").mkdir()
    busybox = shutil.which("busybox") or ""
    shutil.copy(busybox, folder / "rootfs/bin/busybox")
    for word in subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout.split():
        if word.startswith("/"):
            target = folder / "rootfs" / word.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, target)
    for name in ("sh", "sleep", "cat", "echo", "true", "dd", "stty", "yes", "setsid"):
        (folder / "rootfs/bin" / name).symlink_to("busybox")
    spec = {
        "ociVersion": "1.0.2",
        "process": process(*args),
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "cgroupsPath": f"/{unique_name('shim')}",
            "namespaces": [{"type": each} for each in ("pid", "ipc", "uts", "mount")],
        },
    }
    (folder / "config.json").write_text(json.dumps(spec))


def process(*args: str) -> dict[str, object]:
    return {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


def _is_shim(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sampan-shim\n"
    except OSError:
        return False


@pytest.fixture(params=["native", "forked"])
def ours(request: pytest.FixtureRequest) -> str:
    """Our shim, exec'd and forked by a zygote."""
    return str(request.param)


class Shim:
    """A started shim and its bundle."""

    def __init__(self, kind: str, folder: Path, *args: str, hearer: Hearer | None = None) -> None:
        self.kind = kind
        # Debian's shim delays its end by five seconds for each event that nobody takes.
        self.hearer = hearer or Hearer(folder / "ctrd.ttrpc")
        if hearer is None:
            self.hearer.listen()
        self.folder = folder
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        self.binary = "" if kind in ("native", "forked") else "runc"
        make_bundle(self.bundle, *args)
        self._log = -1
        self._zygote: Zygote | None = None
        self.address = self._fork() if kind == "forked" else self._exec()
        self.client = Client.connect(self.address)
        self.pid = int(self.call("Connect", id="c1").shim_pid)
        self.pidfd = pidfd_open(self.pid)

    def _fork(self) -> str:
        """Have a zygote fork it, with a server that rests as soon as it may."""
        path = self.folder / "shim.sock"
        self._zygote = Zygote.start(("sampan.oci", "sampan.shim.preloaded"))
        config = Config(
            id="c1", namespace="t", socket=str(path), bundle=str(self.bundle), listen_fd=0,
            publish=str(self.hearer.path), log_fd=1, rest_s=0.02,
        )  # fmt: skip
        with socket.socket(socket.AF_UNIX) as listener, (self.bundle / "log").open("wb") as log:
            listener.bind(str(path))
            listener.listen()
            fds = [listener.fileno(), log.fileno()]
            self._zygote.fork("sampan.shim.serve:worker", config.to_json(), fds).close()
        return str(path)

    def _exec(self) -> str:
        program = [sys.executable, "-m", "sampan.shim.main"]
        if self.kind == "debian":
            program = ["containerd-shim-runc-v2"]
            os.mkfifo(self.bundle / "log")
            self._log = os.open(self.bundle / "log", os.O_RDWR | os.O_NONBLOCK)
        else:
            (self.bundle / "log").touch()
        arguments = ["-namespace", "t", "-id", "c1", "-address", str(self.folder / "ctrd"), "start"]
        environment = {**os.environ, "TTRPC_ADDRESS": str(self.hearer.path)}
        if self.kind == "debian":
            arguments = ["-publish-binary", "/bin/true", *arguments]
        started = subprocess.run(
            [*program, *arguments],
            cwd=self.bundle, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
            env=environment, check=True,
        )  # fmt: skip
        return started.stdout.removeprefix("unix://")

    def rest(self) -> None:
        """Wait until its server has gone to rest; what comes next is for another."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        until_s = time.monotonic() + 10
        while any(_is_shim(child) for child in children.read_text().split()):
            assert time.monotonic() < until_s, "the server does not rest"
            select.select([], [], [], 0.01)

    def call(self, method: str, **fields: object) -> Untyped:
        if self.kind == "debian" and fields.get("stdout"):
            # 1.6 sends both streams of a file:// URI into stdout's file, and cannot do without
            # a stderr.
            fields["stderr"] = fields["stdout"]
        request, answer = task.METHODS[method]
        return self.client.call(SERVICE, method, request(**fields), answer, timeout_s=20)

    def create(self, **fields: object) -> Untyped:
        options = Any.pack(runc.Options(binary_name=self.binary, root=str(self.folder / "root")))
        return self.call("Create", id="c1", bundle=str(self.bundle), options=options, **fields)

    def close(self) -> None:
        for method, fields in (
            ("Kill", {"id": "c1", "signal": 9, "all": True}), ("Wait", {"id": "c1"}),
            ("Delete", {"id": "c1"}), ("Shutdown", {"id": "c1", "now": True}),
        ):  # fmt: skip
            try:
                self.call(method, **fields)
            except SampanError:
                continue
        self.client.close()
        assert pidfd_wait(self.pidfd, 20)
        os.close(self.pidfd)
        if self._zygote is not None:
            self._zygote.close()
        self.hearer.close()
        if self._log >= 0:
            os.close(self._log)


@pytest.fixture
def new_shim() -> Callable[..., Shim]:
    """`new_shim(kind, folder, *args, hearer=None)`; the test closes it."""
    return Shim


@pytest.fixture
def new_hearer() -> Callable[[Path], Hearer]:
    return Hearer


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sampan-shim-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(name="make_bundle")
def make_bundle_fixture() -> Callable[..., None]:
    return make_bundle
