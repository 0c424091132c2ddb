"""NRI with in-process plugins, scripts that we start, and peers that misbehave on the socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import Nri, NriConfig
from sampan.cri.nri.inprocess import GROUP, InProcessPlugin, installed
from sampan.cri.nri.launch import discover, settings_of
from sampan.cri.nri.methods import ALL_EVENTS, METHODS
from sampan.cri.nri.mux import PLUGIN, RUNTIME, PieceReader, pieces_of
from sampan.cri.nri.trunk import RUNTIME_SERVICE, Raw
from sampan.errors import InvalidArgument, PermissionDenied, SampanError, Unavailable
from sampan.rpc.client import pack_request, unpack_response
from sampan.rpc.frames import FrameReader

POD = pb.PodSandbox(id="p", name="pod")
CONTAINER = pb.Container(id="c", name="ctr")


class Pods:
    """The CRI's side."""

    def __init__(self) -> None:
        self.updates: list[str] = []
        self.evicted: list[tuple[str, str]] = []
        self.asked = asyncio.Event()

    async def everything(self) -> tuple[Sequence[pb.PodSandbox], Sequence[pb.Container]]:
        self.asked.set()
        return [POD], [CONTAINER]

    async def update(self, updates: Sequence[pb.ContainerUpdate]) -> Sequence[pb.ContainerUpdate]:
        self.updates += [one.container_id for one in updates]
        return ()

    async def evict(self, container_id: str, reason: str) -> None:
        self.evicted.append((container_id, reason))


@asynccontextmanager
async def running(
    folder: Path, *plugins: Any, runtime: Pods | None = None, **config: Any
) -> AsyncIterator[Nri]:
    made = NriConfig(
        socket=folder / "nri" / "nri.sock",
        plugins=folder / "plugins",
        plugin_config=folder / "conf",
        **config,
    )
    nri = Nri(runtime or Pods(), made, plugins=plugins)
    async with asyncio.timeout(20):
        await nri.start()
        try:
            yield nri
        finally:
            await nri.close()


class Recorder:
    """Synchronous: runs in a thread."""

    name, index = "recorder", "20"

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.threads: set[str] = set()

    def configure(self, settings: str, runtime: str, version: str) -> None:
        self.seen.append((settings, runtime))

    def synchronize(
        self, pods: list[pb.PodSandbox], containers: list[pb.Container]
    ) -> list[pb.ContainerUpdate]:
        self.seen.append((len(pods), len(containers)))
        return [pb.ContainerUpdate(container_id="at-start")]

    def run_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        self.threads.add(threading.current_thread().name)
        self.seen.append(pod.name)

    def create_container(self, pod: pb.PodSandbox, container: pb.Container) -> Any:
        self.seen.append(list(container.env))
        container.env.append("IGNORED=1")  # no adjustment, since it is not returned
        adjust = pb.ContainerAdjustment(env=[pb.KeyValue(key="R", value="2")])
        return adjust, [pb.ContainerUpdate(container_id="x")]

    def stop_container(
        self, pod: pb.PodSandbox, container: pb.Container
    ) -> list[pb.ContainerUpdate]:
        return [pb.ContainerUpdate(container_id="y")]

    def shutdown(self) -> None:
        self.seen.append("bye")


class First:
    """Asynchronous, and first in the order."""

    name, index = "first", "10"

    async def create_container(
        self, pod: pb.PodSandbox, container: pb.Container
    ) -> pb.ContainerAdjustment:
        return pb.ContainerAdjustment(env=[pb.KeyValue(key="F", value="1")])

    async def update_container(
        self, pod: pb.PodSandbox, container: pb.Container, resources: pb.LinuxResources
    ) -> list[pb.ContainerUpdate]:
        made = pb.ContainerUpdate(container_id=container.id)
        made.linux.resources.cpu.shares.value = 5
        return [made]


async def test_in_process_plugins_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "recorder.conf").write_text("hello")
    runtime, recorder = Pods(), Recorder()
    async with running(tmp_path, recorder, First(), runtime=runtime) as nri:
        assert nri.plugins == ["10-first", "20-recorder"]
        assert runtime.updates == ["at-start"]
        await nri.run_pod_sandbox(POD)
        changes = await nri.create_container(POD, CONTAINER)
        assert [one.key for one in changes.adjust.env] == ["F", "R"]
        assert [one.container_id for one in changes.updates] == ["x"]
        updated = await nri.update_container(POD, CONTAINER, pb.LinuxResources())
        assert updated.resources.cpu.shares.value == 5
        assert [one.container_id for one in await nri.stop_container(POD, CONTAINER)] == ["y"]
        for tell in (nri.stop_pod_sandbox, nri.remove_pod_sandbox, nri.post_update_pod_sandbox):
            await tell(POD)
        for tell_both in (
            nri.post_create_container,
            nri.start_container,
            nri.post_start_container,
            nri.post_update_container,
            nri.remove_container,
        ):
            await tell_both(POD, CONTAINER)
        await nri.update_pod_sandbox(POD, pb.LinuxResources(), pb.LinuxResources())
    assert recorder.seen == [("hello", "sampan"), (1, 1), "pod", ["F=1"], "bye"]
    assert recorder.threads == {"nri 20-recorder"}
    assert CONTAINER.env == []


async def test_disabled_it_does_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, Recorder(), enabled=False) as nri:
        assert nri.plugins == []
        changes = await nri.create_container(POD, CONTAINER)
        assert changes.adjust == pb.ContainerAdjustment()
    assert not (tmp_path / "nri").exists()


class Vetoing:
    index = "30"

    def start_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        raise RuntimeError("not today")

    def validate_container_adjustment(
        self, request: pb.ValidateContainerAdjustmentRequest
    ) -> str | None:
        owners = request.owners.owners["c"].compound[pb.Field.Env].owners
        return f"owned by {owners['F']}" if "F" in owners else None


async def test_vetoes(tmp_path: Path) -> None:
    async with running(tmp_path, Vetoing()) as nri:
        with pytest.raises(SampanError, match=r"30-Vetoing refuses StartContainer: .*not today"):
            await nri.start_container(POD, CONTAINER)
        await nri.create_container(POD, CONTAINER)
    async with running(tmp_path, Vetoing(), First()) as nri:
        with pytest.raises(PermissionDenied, match="rejects container c: owned by 10-first"):
            await nri.create_container(POD, CONTAINER)


async def test_one_that_hangs_costs_only_itself(tmp_path: Path) -> None:
    release = threading.Event()

    class Hanging:
        index = "05"

        def run_pod_sandbox(self, pod: pb.PodSandbox) -> None:
            release.wait(20)

    recorder = Recorder()
    async with running(tmp_path, Hanging(), recorder, request_timeout_s=1.0) as nri:
        await nri.run_pod_sandbox(POD)
        assert nri.plugins == ["20-recorder"]
        assert "pod" in recorder.seen
        release.set()


async def test_a_validator_that_hangs_lets_nothing_through(tmp_path: Path) -> None:
    class Hanging:
        async def validate_container_adjustment(self, request: Any) -> None:
            await asyncio.sleep(20)

    async with running(tmp_path, Hanging(), request_timeout_s=0.05) as nri:
        with pytest.raises(Unavailable, match="did not validate"):
            await nri.create_container(POD, CONTAINER)


async def test_what_is_no_answer(tmp_path: Path) -> None:
    class Odd:
        def create_container(self, pod: Any, container: Any) -> Any:
            return 5

    async with running(tmp_path, Odd()) as nri:
        with pytest.raises(SampanError, match="create_container returned int"):
            await nri.create_container(POD, CONTAINER)


def test_names_and_events() -> None:
    with pytest.raises(InvalidArgument, match="two digits"):
        InProcessPlugin(object(), NriConfig(), "5", "x")
    with pytest.raises(InvalidArgument, match="letters, digits"):
        InProcessPlugin(object(), NriConfig(), "05", "a b")
    everything = type("All", (), dict.fromkeys(map(snake, METHODS)))()
    assert InProcessPlugin(everything, NriConfig()).events == ALL_EVENTS
    assert InProcessPlugin(object(), NriConfig()).events == 0


def snake(method: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in method)[1:]


def test_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "some_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\n15-fine = builtins:object\n99x-bad = builtins:object\n16-gone = no_such:x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [one.label for one in installed(NriConfig())] == ["15-fine"]


async def test_plugins_that_we_start(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    script = folder / "10-sh"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    (folder / "99-data").write_text("")
    (folder / "other").write_text("")
    (folder / "other").chmod(0o755)
    assert [one.path.name for one in discover(folder)] == ["10-sh"]
    assert discover(tmp_path / "no") == []
    async with running(tmp_path) as nri:
        assert nri.plugins == []
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "sh.conf").write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match=r"sh\.conf"):
        settings_of(tmp_path / "conf", "10", "sh")
    assert settings_of(tmp_path / "conf", "10", "other") == ""


class Peer:
    """The raw other end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._pieces = PieceReader()
        self._frames = {PLUGIN: FrameReader(), RUNTIME: FrameReader()}
        self._waiting: list[tuple[int, Any]] = []

    async def call(self, method: str, request: Any) -> None:
        raw = Raw.decode(request.SerializeToString())
        self.writer.write(pieces_of(RUNTIME, pack_request(1, RUNTIME_SERVICE, method, raw)))
        await self.writer.drain()

    async def frame(self) -> tuple[int, Any] | None:
        while not self._waiting:
            data = await self.reader.read(65536)
            if not data:
                return None
            for number, body in self._pieces.feed(data):
                self._waiting += [(number, frame) for frame in self._frames[number].feed(body)]
        return self._waiting.pop(0)


@asynccontextmanager
async def peer(folder: Path) -> AsyncIterator[Peer]:
    path = folder / "nri" / "nri.sock"
    reader, writer = await asyncio.open_unix_connection(path)
    yield Peer(reader, writer)
    writer.close()
    await writer.wait_closed()


async def test_the_socket_is_private(tmp_path: Path) -> None:
    async with running(tmp_path) as nri:
        path = tmp_path / "nri" / "nri.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        # A second runtime leaves the socket to the first.
        other = Nri(Pods(), NriConfig(socket=path, plugins=tmp_path / "no"))
        await other.start()
        await other.close()
        async with peer(tmp_path):
            assert nri.plugins == []
    assert not path.exists()


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: pb.RegisterPluginRequest(plugin_name="x", plugin_idx="1"),
        lambda: pb.RegisterPluginRequest(plugin_name="", plugin_idx="10"),
        lambda: pb.RegisterPluginRequest(plugin_name="a/b", plugin_idx="10"),
    ],
)
async def test_bad_registrations(tmp_path: Path, request_of: Callable[[], Any]) -> None:
    async with running(tmp_path) as nri, peer(tmp_path) as one:
        await one.call("RegisterPlugin", request_of())
        while (got := await one.frame()) is not None:
            number, frame = got
            assert number == RUNTIME
            with pytest.raises(InvalidArgument):
                unpack_response(frame.data, Raw)
        assert nri.plugins == []


async def test_one_that_never_registers(tmp_path: Path) -> None:
    async with running(tmp_path, registration_timeout_s=0.05), peer(tmp_path) as one:
        assert await one.frame() is None


async def test_one_that_speaks_nonsense(tmp_path: Path) -> None:
    async with running(tmp_path) as nri, peer(tmp_path) as one:
        one.writer.write(b"\xff" * 100)
        assert await one.frame() is None
        assert nri.plugins == []


async def test_updates_before_joining_are_refused(tmp_path: Path) -> None:
    runtime = Pods()
    async with running(tmp_path, runtime=runtime), peer(tmp_path) as one:
        request = pb.UpdateContainersRequest(update=[pb.ContainerUpdate(container_id="x")])
        await one.call("UpdateContainers", request)
        got = await one.frame()
        assert got is not None
        with pytest.raises(Unavailable, match="not joined"):
            unpack_response(got[1].data, Raw)
    assert runtime.updates == []


async def test_nobody_joins_in_the_middle_of_a_change(tmp_path: Path) -> None:
    runtime = Pods()
    async with running(tmp_path, runtime=runtime) as nri:
        loop = asyncio.get_running_loop()
        plugin = InProcessPlugin(First(), NriConfig())
        async with nri.changing(), nri.changing():
            joining = loop.create_task(nri._join(plugin))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not runtime.asked.is_set()
            late = loop.create_task(nri.changing().__aenter__())
            await asyncio.sleep(0)
            assert not late.done()
        await joining
        assert nri.plugins == ["10-first"]
        await late
