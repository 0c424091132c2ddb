"""Pods' shims: one for many tasks, alive before the first and after the last."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sampan import context
from sampan.errors import AlreadyExists, Unavailable
from sampan.events import Exchange
from sampan.runtime import LocalTasks, Shims, Status
from sampan.runtime.sandbox import PodShims
from sampan.testing import requires, unique_name

pytestmark = requires("root", "busybox")


def spec(rootfs: Path, *args: str) -> bytes:
    import json

    process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    namespaces = [{"type": one} for one in ("pid", "ipc", "uts", "mount")]
    linux = {"cgroupsPath": f"/{unique_name('pod')}", "namespaces": namespaces}
    values = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(rootfs)},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": linux,
    }
    return json.dumps(values).encode()


async def test_two_tasks_in_one_shim(state: Path, rootfs: Path) -> None:
    shims = Shims(state)
    tasks, pods = LocalTasks(state, shims, Exchange()), PodShims(state, shims)
    with context.scope("default"):
        try:
            assert not await pods.ready("p")
            assert await pods.start("p") > 1
            with pytest.raises(AlreadyExists):
                await pods.start("p")
            assert await pods.ready("p")
            for name in ("a", "b"):
                await tasks.create(name, spec=spec(rootfs, "sleep", "99"), pod=pods.bundle("p"))
                await tasks.start(name)
            assert len(list((state / "s").iterdir())) == 1
            await tasks.delete("a", force=True)
            assert (await tasks.state("b")).status is Status.RUNNING
            await tasks.delete("b", force=True)
            assert await pods.ready("p")  # without any task
            await pods.stop("p")
            assert not await pods.ready("p")
            await pods.delete("p")
            await pods.delete("p")
            with pytest.raises(Unavailable):
                await tasks.create("c", spec=spec(rootfs, "true"), pod=pods.bundle("p"))
        finally:
            await tasks.close()
            await shims.close()
    assert list((state / "s").iterdir()) == []


async def test_a_shim_that_is_killed(state: Path, rootfs: Path) -> None:
    shims = Shims(state)
    tasks, pods = LocalTasks(state, shims, Exchange()), PodShims(state, shims)
    with context.scope("default"):
        try:
            pid = await pods.start("p")
            await tasks.create("a", spec=spec(rootfs, "sleep", "99"), pod=pods.bundle("p"))
            await tasks.start("a")
            waiting = asyncio.ensure_future(pods.gone("p"))
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                await waiting
                ended = await tasks.wait("a")
            assert ended.status == 137
            await tasks.delete("a")
            assert not await pods.ready("p")
            await pods.gone("p")
            await pods.stop("p")
            await pods.delete("p")
        finally:
            await tasks.close()
            await shims.close()
