"""Who dies: an owner, whose shim then leaves nothing; and the shim itself, cleaned up behind."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.linux.process import pidfd_open, pidfd_wait
from sampan.rpc.client import Client
from sampan.rpc.messages import task
from sampan.rpc.messages.types import Mount
from sampan.shim.config import Config
from sampan.testing import requires
from sampan.zygote import Worker, Zygote

pytestmark = requires("root", "busybox")


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    with Zygote.start(["sampan.shim.preloaded", "sampan.shim.cleanup"]) as started:
        yield started


class Forked:
    """A shim of the zygote with a running container, whose rootfs is a bind mount."""

    def __init__(self, zygote: Zygote, folder: Path, bundle: Path, owner: int = -1) -> None:
        self.base = folder / "base"
        (bundle / "rootfs").rename(self.base)
        self.config = Config(
            id="c1", namespace="t", oci_root=str(folder / "oci"), connection_fd=0,
            owner_fd=1 if owner >= 0 else -1, bundle=str(bundle),
        )  # fmt: skip
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno()] + ([owner] if owner >= 0 else [])
        with theirs:
            self.worker: Worker = zygote.fork(
                "sampan.shim.preloaded:worker", self.config.to_json(), fds
            )
        self.client = Client(ours)
        rootfs = [Mount(type="bind", source=str(self.base), options=["rbind"])]
        self.pid = int(self.call("Create", bundle=str(bundle), rootfs=rootfs).pid)
        self.call("Start")
        self.pidfd = pidfd_open(self.pid)

    def call(self, method: str, **fields: object) -> Untyped:
        request, answer = task.METHODS[method]
        service = "containerd.task.v2.Task"
        return self.client.call(service, method, request(id="c1", **fields), answer, timeout_s=20)

    def close(self) -> None:
        self.client.close()
        self.worker.close()
        os.close(self.pidfd)


def left_of(folder: Path) -> list[str]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left = [line.split()[4] for line in mounts if line.split()[4].startswith(str(folder))]
    name = json.loads((folder / "bundle/config.json").read_text())["linux"]["cgroupsPath"]
    left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*{name}")]
    return left + [str(path) for path in (folder / "oci").glob("t/*")]


def test_an_owner_killed_takes_everything_with_it(
    make_bundle: Callable[..., None], zygote: Zygote, folder: Path
) -> None:
    bundle = folder / "bundle"
    bundle.mkdir()
    make_bundle(bundle, "sh", "-c", "sleep 100 & sleep 100")
    with subprocess.Popen(["sleep", "100"]) as owner:
        pidfd = pidfd_open(owner.pid)
        shim = Forked(zygote, folder, bundle, pidfd)
        os.close(pidfd)
        assert left_of(folder) != []
        owner.send_signal(signal.SIGKILL)
    try:
        assert pidfd_wait(shim.pidfd, 15)
        assert shim.worker.wait(15) == 0
        assert left_of(folder) == []
    finally:
        shim.close()


def test_clean_up_behind_a_killed_shim(
    make_bundle: Callable[..., None], zygote: Zygote, folder: Path
) -> None:
    bundle = folder / "bundle"
    bundle.mkdir()
    make_bundle(bundle, "sleep", "100")
    shim = Forked(zygote, folder, bundle)
    try:
        shim.worker.signal(signal.SIGKILL)
        assert shim.worker.wait(15) == -signal.SIGKILL
        values = {name: getattr(shim.config, name) for name in ("id", "namespace", "oci_root")}
        payload = json.dumps({**values, "bundle": str(bundle)}).encode()
        with zygote.fork("sampan.shim.cleanup:worker", payload) as worker:
            assert worker.wait(30) == 0
        assert pidfd_wait(shim.pidfd, 15)
        assert left_of(folder) == []
    finally:
        shim.close()
