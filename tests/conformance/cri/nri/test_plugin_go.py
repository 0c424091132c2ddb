"""A plugin on containerd/nri's own Go stub against our runtime side: v0.12.3."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import Nri, NriConfig
from sampan.errors import PermissionDenied, SampanError, Unknown
from sampan.testing import requires

SOURCE = Path(__file__).parent / "plugin_go"

pytestmark = requires("go")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin") / "src"
    shutil.copytree(SOURCE, folder)
    built = subprocess.run(
        ["go", "build", "-p", "1", "-o", "plugin", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if built.returncode != 0:
        pytest.skip(f"containerd/nri cannot be had: {built.stderr[-300:]}")
    return folder / "plugin"


class Pods:
    """The CRI's side."""

    def __init__(self, count: int = 1) -> None:
        self.pods = [pb.PodSandbox(id=f"p{number}", name="x" * 200) for number in range(count)]
        self.updated: asyncio.Queue[pb.ContainerUpdate] = asyncio.Queue()

    async def everything(self) -> tuple[Sequence[pb.PodSandbox], Sequence[pb.Container]]:
        return self.pods, [pb.Container(id="c0")]

    async def update(self, updates: Sequence[pb.ContainerUpdate]) -> Sequence[pb.ContainerUpdate]:
        for one in updates:
            self.updated.put_nowait(one)
        return updates[:1]

    async def evict(self, container_id: str, reason: str) -> None:
        raise AssertionError("nobody is evicted here")


class Connected:
    """A runtime and a Go plugin that has joined."""

    def __init__(self, nri: Nri, runtime: Pods, process: asyncio.subprocess.Process) -> None:
        self.nri = nri
        self.runtime = runtime
        self.process = process

    async def said(self, event: str) -> dict[str, Any]:
        """Read what the plugin prints until it has said `event`."""
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            value: dict[str, Any] = json.loads(line)
            if value["event"] == event:
                return value
        raise AssertionError(f"the plugin ended without {event}")


@asynccontextmanager
async def connected(
    program: Path, folder: Path, runtime: Pods | None = None, **config: Any
) -> AsyncIterator[Connected]:
    runtime = runtime or Pods()
    settings = folder / "conf.d"
    settings.mkdir()
    (settings / "10-go.conf").write_text("key: value")
    made = NriConfig(
        socket=folder / "nri.sock",
        plugins=folder / "plugins",
        plugin_config=settings,
        runtime_version="1.0",
        **config,
    )
    nri = Nri(runtime, made)
    await nri.start()
    process = await asyncio.create_subprocess_exec(
        program,
        *("-socket", str(made.socket), "-name", "go", "-index", "10"),
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        async with asyncio.timeout(40):
            both = Connected(nri, runtime, process)
            await both.said("Synchronize")
            async with nri.changing():
                assert nri.plugins == ["10-go"]
            yield both
    finally:
        await nri.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


POD = pb.PodSandbox(id="p", name="pod", ips=["10.0.0.1", "fd00::1"])


async def test_events_adjustments_and_updates(program: Path, tmp_path: Path) -> None:
    async with connected(program, tmp_path) as both:
        nri = both.nri
        await nri.run_pod_sandbox(POD)
        assert await both.said("RunPodSandbox") == {
            "event": "RunPodSandbox",
            "pod": "pod",
            "ips": ["10.0.0.1", "fd00::1"],
        }
        container = pb.Container(id="c", name="ctr", args=["sh"], annotations={"adjust": "1"})
        changes = await nri.create_container(POD, container)
        assert (await both.said("CreateContainer"))["length"] == 2
        assert (await both.said("Validate"))["plugins"] == 1
        adjust = changes.adjust
        assert [(one.key, one.value) for one in adjust.env] == [("FROM_GO", "pod")]
        assert dict(adjust.annotations) == {"seen-by": "go"}
        assert adjust.mounts[0].destination == "/go"
        assert adjust.linux.resources.memory.limit.value == 123456
        assert adjust.rlimits[0] == pb.POSIXRlimit(type="RLIMIT_NOFILE", hard=100, soft=50)
        assert [one.container_id for one in changes.updates] == ["other"]
        assert changes.updates[0].linux.resources.cpu.shares.value == 77
        wanted = pb.LinuxResources(memory=pb.LinuxMemory(limit=pb.OptionalInt64(value=5)))
        updated = await nri.update_container(POD, container, wanted)
        assert (await both.said("UpdateContainer"))["limit"] == 5
        assert updated.resources.memory.limit.value == 5
        assert updated.resources.cpu.shares.value == 99
        assert updated.updates == []
        await nri.post_start_container(POD, container)
        assert (await both.runtime.updated.get()).container_id == "unsolicited"
        assert await both.said("Updated") == {"event": "Updated", "failed": 1, "error": False}
        assert await nri.stop_container(POD, container) == []
        await both.said("StopContainer")
        await nri.stop_pod_sandbox(POD)
        await both.said("StopPodSandbox")
        await nri.close()
        await both.said("Shutdown")


async def test_vetoes_and_rejections(program: Path, tmp_path: Path) -> None:
    async with connected(program, tmp_path) as both:
        vetoed = pb.PodSandbox(id="p", annotations={"veto": "not on my watch"})
        with pytest.raises(SampanError, match="10-go refuses RunPodSandbox: not on my watch"):
            await both.nri.run_pod_sandbox(vetoed)
        rejected = pb.Container(id="c", annotations={"reject": "too red"})
        with pytest.raises((PermissionDenied, Unknown), match="too red"):
            await both.nri.create_container(POD, rejected)
        assert both.nri.plugins == ["10-go"]


async def test_one_that_hangs_is_dropped(program: Path, tmp_path: Path) -> None:
    async with connected(program, tmp_path, request_timeout_s=1.5) as both:
        hanging = pb.Container(id="c", annotations={"hang": "1"})
        changes = await both.nri.create_container(POD, hanging)
        assert changes.adjust == pb.ContainerAdjustment()
        assert both.nri.plugins == []
        await both.nri.run_pod_sandbox(POD)


async def test_one_that_dies_is_dropped(program: Path, tmp_path: Path) -> None:
    async with connected(program, tmp_path) as both:
        both.process.kill()
        await both.process.wait()
        await both.nri.run_pod_sandbox(POD)
        assert both.nri.plugins == []


async def test_more_pods_than_one_message_holds(program: Path, tmp_path: Path) -> None:
    """7 MB of pods, in several messages; Go's side joins them again."""
    runtime = Pods(count=30_000)
    async with connected(program, tmp_path, runtime, request_timeout_s=20.0) as both:
        await both.nri.run_pod_sandbox(POD)
        await both.said("RunPodSandbox")


async def test_messages_longer_than_its_buffer(program: Path, tmp_path: Path) -> None:
    async with connected(program, tmp_path) as both:
        for size in (4000, 4060, 4086, 4096, 5000, 8192, 300_000, 3_000_000):
            container = pb.Container(id="c", name="ctr", args=["x" * size])
            await both.nri.create_container(POD, container)
            assert (await both.said("CreateContainer"))["length"] == size


async def test_started_by_us(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    shutil.copy(program, folder / "20-go")
    (folder / "README").write_text("not executable")
    config = NriConfig(listen=False, plugins=folder, plugin_config=tmp_path)
    nri = Nri(Pods(), config)
    await nri.start()
    try:
        assert nri.plugins == ["20-go"]
        container = pb.Container(id="c", annotations={"adjust": "1"})
        changes = await nri.create_container(POD, container)
        assert changes.adjust.env[0].key == "FROM_GO"
    finally:
        await nri.close()
    assert nri.plugins == []
