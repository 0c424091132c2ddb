"""What a new daemon makes of what the last one left: pods go on, what ended meanwhile is known."""

# ruff: noqa: ASYNC240  small files of the test's own

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from sampan import context
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import run
from sampan.cri import NAMESPACE
from sampan.cri.sandboxes.namespaces import unmount_pod
from sampan.cri.store import state
from sampan.cri.store.names import Flights, Names
from sampan.cri.store.records import Container, Pod
from sampan.errors import AlreadyExists
from sampan.testing import requires

pytestmark = requires("root", "busybox")


async def test_pods_and_containers_go_on(open_kubelet: Any, bridge: str) -> None:
    async with open_kubelet(cni=bridge) as kubelet:
        config = kubelet.pod_config("lasting", namespaces={"network": pb.POD, "pid": pb.POD})
        pod = await kubelet.run_pod(config)
        ip = (await kubelet.pod_status(pod)).network.ip
        lasting = await kubelet.run(pod, name="lasting", labels={"k": "v"})
        ending = await kubelet.run(pod, "sleep", "500")
        created = await kubelet.create(pod, kubelet.container_config("true", name="created"))
        ended = await kubelet.run(pod, "false")
        await kubelet.ended(ended)
        before = await kubelet.status(lasting)
        pid = kubelet.cri.containers[ending].pid
        watched = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    await _readable(watched)
    os.close(watched)
    async with open_kubelet(cni=bridge) as kubelet:
        status = await kubelet.pod_status(pod)
        assert (status.state, status.network.ip) == (pb.SANDBOX_READY, ip)
        assert await kubelet.status(lasting) == before
        told = await kubelet.ended(ending)
        assert told.exit_code == 128 + signal.SIGKILL
        assert (await kubelet.status(ended)).exit_code == 1
        assert (await kubelet.status(created)).state == pb.CONTAINER_CREATED
        with pytest.raises(GRPCError, match="reserved"):
            await kubelet.create(pod, kubelet.container_config(name="lasting"))
        with pytest.raises(GRPCError, match="reserved"):
            await kubelet.run_pod(config)
        await kubelet.start(created)
        assert (await kubelet.ended(created)).exit_code == 0
        assert (await kubelet.exec(lasting, "echo", "on")).stdout == b"on\n"
        late = await kubelet.run(pod, name="late")
        await kubelet.stop(late)
        await kubelet.remove_pod(pod)
        assert str(kubelet.cri.state) not in Path("/proc/self/mountinfo").read_text()


async def _readable(fd: int) -> None:
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(10):
            await ready.wait()
    finally:
        loop.remove_reader(fd)


@pytest.mark.parametrize("stale", [False, True])
async def test_a_reboot(open_kubelet: Any, root: Path, state: Path, *, stale: bool) -> None:
    """What ran is gone, and the state folder with it; or it is there, and speaks of the dead."""
    async with open_kubelet() as kubelet:
        pod = await kubelet.run_pod()
        running = await kubelet.run(pod)
        created = await kubelet.create(pod, kubelet.container_config())
        other = await kubelet.run_pod()
        kept = state.with_name("kept")
        await run(["cp", "-ax", str(state), str(kept)], timeout_s=20)
        # What a reboot ends, without the rest of this machine.
        with context.scope(NAMESPACE):
            await kubelet.cri.engine.tasks.delete(running, force=True)
            for one in (pod, other):
                await kubelet.cri.pod_shims.delete(one)
                unmount_pod(kubelet.cri.pod_folder(one))
    shutil.rmtree(state)
    if stale:
        kept.rename(state)
    else:
        shutil.rmtree(kept)
        state.mkdir(mode=0o711)
    orphan = root / "io.containerd.grpc.v1.cri/containers/orphan/volumes"
    orphan.mkdir(parents=True)
    async with open_kubelet() as kubelet:
        assert not orphan.parent.exists()
        assert (await kubelet.pod_status(pod)).state == pb.SANDBOX_NOTREADY
        status = await kubelet.status(running)
        assert status.state == pb.CONTAINER_EXITED
        assert (status.exit_code, status.reason) == ((137, "Error") if stale else (255, "Unknown"))
        assert (await kubelet.status(created)).state == pb.CONTAINER_EXITED
        await kubelet.stop_pod(pod)
        await kubelet.remove_pod(pod)
        await kubelet.remove_pod(other)
        assert (kubelet.cri.pods, kubelet.cri.containers) == ({}, {})
        assert list((state / "io.containerd.grpc.v1.cri").glob("[cs]*/*")) == []


async def test_a_shim_that_was_killed(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    container = await kubelet.run(pod)
    with context.scope(NAMESPACE):
        path = kubelet.cri.pod_shims.bundle(pod).path
    os.kill(int((path / "shim.pid").read_text().split()[0]), signal.SIGKILL)
    status = await kubelet.ended(container)
    assert (status.state, status.exit_code) == (pb.CONTAINER_EXITED, 137)
    await kubelet.until(lambda: not kubelet.cri.pods[pod].ready)
    assert (await kubelet.pod_status(pod)).state == pb.SANDBOX_NOTREADY
    with pytest.raises(GRPCError, match="not running"):
        await kubelet.run(pod)
    await kubelet.remove_pod(pod)


def test_names() -> None:
    names = Names("pod")
    names.reserve("a", "1")
    names.reserve("a", "1")
    with pytest.raises(AlreadyExists, match="'1'"):
        names.reserve("a", "2")
    names.release("a", "2")
    names.release("a", "1")
    names.reserve("a", "2")


async def test_flights() -> None:
    flights, gate, made = Flights(), asyncio.Event(), []

    async def work() -> str:
        made.append(1)
        await gate.wait()
        return "id"

    first = asyncio.ensure_future(flights.join("n", b"q", work))
    second = asyncio.ensure_future(flights.join("n", b"q", work))
    await asyncio.sleep(0)
    with pytest.raises(AlreadyExists):
        await flights.join("n", b"other", work)
    first.cancel()
    gate.set()
    assert await second == "id"
    assert made == [1]
    await flights.close()


def test_state_files(tmp_path: Path) -> None:
    path = tmp_path / "new/status.json"
    assert state.read(path) == {}
    state.write(path, {"a": [1]})
    assert state.read(path) == {"a": [1]}
    path.write_text("{")
    assert state.read(path) == {}


def test_rows_and_back() -> None:
    config = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="n", uid="u"))
    config.labels["k"] = "v" * 5000  # more than a label of the store can hold
    pod = Pod(id="p", config=config, handler="h", created_ns=5, holder=True)
    again = Pod.of(pod.row())
    assert again is not None
    assert (again.config, again.handler, again.created_ns) == (config, "h", 5)
    assert "k" not in pod.row().labels
    wanted = pb.ContainerConfig(metadata=pb.ContainerMetadata(name="c"))
    wanted.envs.append(pb.KeyValue(key="k", value=b"\xff"))
    container = Container(
        id="c",
        pod_id="p",
        pod_meta=config.metadata,
        config=wanted,
        created_ns=6,
        image_id="sha256:0",
        image_ref="r",
        log_path="/l",
        snapshotter="overlayfs",
        user=(1, 2, (3,)),
        views=("v",),
        spec=b"{}",
    )
    back = Container.of(container.row())
    assert back is not None
    assert (back.config, back.user, back.views, back.name) == (
        wanted, (1, 2, (3,)), ("v",), "c_n__u_0",
    )  # fmt: skip
    container.state, container.exit_code = pb.CONTAINER_EXITED, 9
    back.recall(container.status())
    assert (back.state, back.exit_code) == (pb.CONTAINER_EXITED, 9)
