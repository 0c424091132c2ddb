"""Random calls of many clients at once, shims killed in between: at the end nothing is left.

The seed is printed; SAMPAN_SEED takes one. SAMPAN_SOAK=1 makes a thousand calls of 16 clients.
"""

# ruff: noqa: ASYNC240  small files of the test's own

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan import context
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri import NAMESPACE
from sampan.testing import requires

pytestmark = requires("root", "busybox")

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
CLIENTS, CALLS = (16, 64) if SOAK else (6, 12)
FINE = {
    Status.NOT_FOUND, Status.FAILED_PRECONDITION, Status.UNAVAILABLE, Status.ALREADY_EXISTS,
    Status.UNKNOWN,
}  # fmt: skip
"""What a call may answer whose pod another client removes, or whose shim is killed, meanwhile."""


class Client:
    """Makes calls at random, upon what all clients have made."""

    def __init__(self, kubelet: Any, seed: int) -> None:
        self.kubelet = kubelet
        self.random = random.Random(seed)
        self.verbs = (
            self.run_pod, self.run, self.run, self.create, self.stop, self.remove, self.stop_pod,
            self.remove_pod, self.exec, self.kill_shim,
        )  # fmt: skip

    async def work(self) -> None:
        await self.run_pod()
        for _ in range(CALLS):
            try:
                await self.random.choice(self.verbs)()
            except GRPCError as err:
                assert err.status in FINE, err  # noqa: PT017

    def _pod(self) -> str:
        return str(self.random.choice([*self.kubelet.cri.pods, "none"]))

    def _container(self) -> str:
        return str(self.random.choice([*self.kubelet.cri.containers, "none"]))

    async def run_pod(self) -> None:
        namespaces = {
            "pid": self.random.choice((pb.POD, pb.CONTAINER)),
            "network": self.random.choice((pb.POD, pb.NODE)),
        }
        await self.kubelet.run_pod(self.kubelet.pod_config(namespaces=namespaces))

    async def run(self) -> None:
        script = self.random.choice(("true", "sleep 1000", "echo x; sleep 0.01; false"))
        await self.kubelet.run(self._pod(), "sh", "-c", script)

    async def create(self) -> None:
        await self.kubelet.create(self._pod(), self.kubelet.container_config())

    async def stop(self) -> None:
        await self.kubelet.stop(self._container(), self.random.choice((0, 1)))

    async def remove(self) -> None:
        await self.kubelet.remove(self._container())

    async def stop_pod(self) -> None:
        await self.kubelet.stop_pod(self._pod())

    async def remove_pod(self) -> None:
        await self.kubelet.remove_pod(self._pod())

    async def exec(self) -> None:
        await self.kubelet.exec(self._container(), "true")

    async def kill_shim(self) -> None:
        if self.random.random() < 0.7:
            return
        with context.scope(NAMESPACE), suppress(OSError, ValueError, IndexError):
            path = self.kubelet.cri.pod_shims.bundle(self._pod()).path
            os.kill(int((path / "shim.pid").read_text().split()[0]), signal.SIGKILL)


async def test_nothing_is_left(open_kubelet: Any, bridge: str) -> None:
    seed = int(os.environ.get("SAMPAN_SEED") or random.randrange(1 << 31))
    sys.stdout.write(f"SAMPAN_SEED={seed}\n")
    async with open_kubelet(cni=bridge) as kubelet, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(Client(kubelet, seed + number).work())
    # Another daemon finds what this one left, and can remove all of it.
    async with open_kubelet(cni=bridge) as kubelet:
        for pod in list(kubelet.cri.pods):
            await kubelet.remove_pod(pod)
        assert (kubelet.cri.pods, kubelet.cri.containers) == ({}, {})
        assert list(kubelet.cri.state.glob("[cs]*/*")) == []
        assert str(kubelet.cri.state) not in Path("/proc/self/mountinfo").read_text()
        settings = kubelet.cri.engine.settings
        assert list((settings.state / "netns").glob("[!.]*")) == []
        assert list((settings.state / "s").iterdir()) == []
        assert list((settings.root / "network/attachments").glob("*")) == []
        with context.scope(NAMESPACE):
            snapshots = kubelet.cri.engine.metadata.snapshotter("overlayfs")
            kinds = {one.kind.value async for one in snapshots.walk()}
        assert kinds == {"committed"}
