"""What the CRI says of the node, its figures, its plugins, and a daemon that is killed."""

# ruff: noqa: ASYNC240  small files of the test's own

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel
from grpclib.exceptions import GRPCError

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.api.cri.v1.api_grpc import RuntimeServiceStub
from sampan.api.nri.v1alpha1 import api_pb2 as nri_pb
from sampan.cri.node import filled
from sampan.cri.nri import NriConfig
from sampan.cri.plugged import Plugged
from sampan.cri.sandboxes.holder import PAUSE_ANNOTATION
from sampan.cri.together import together
from sampan.errors import NotFound
from sampan.testing import requires

pytestmark = requires("root", "busybox")


async def test_status(kubelet: Any) -> None:
    version = await kubelet.runtime.Version(pb.VersionRequest())
    assert (version.runtime_name, version.runtime_api_version) == ("sampan", "v1")
    status = await kubelet.runtime.Status(pb.StatusRequest(verbose=True))
    ready = {one.type: one.status for one in status.status.conditions}
    assert ready["RuntimeReady"]
    handlers = {one.name: one.features for one in status.runtime_handlers}
    assert handlers[""].recursive_read_only_mounts
    assert "runc" in handlers
    assert status.features.supplemental_groups_policy
    assert status.features.mount_options
    assert json.loads(status.info["config"])["runtime"]["enable_cdi"] is True
    config = await kubelet.runtime.RuntimeConfig(pb.RuntimeConfigRequest())
    assert config.linux.cgroup_driver == pb.CGROUPFS


async def test_pod_range_fills_the_template(open_kubelet: Any, short_path: Path) -> None:
    template, folder = short_path / "template", short_path / "net.d"
    template.write_text('{"name": "t", "subnet": "{{.PodCIDR}}"}')
    cni = {"conf_dir": str(folder), "conf_template": str(template)}

    def request(cidr: str) -> pb.UpdateRuntimeConfigRequest:
        network = pb.NetworkConfig(pod_cidr=cidr)
        return pb.UpdateRuntimeConfigRequest(
            runtime_config=pb.RuntimeConfig(network_config=network)
        )

    async with open_kubelet(runtime={"cni": cni}) as kubelet:
        with pytest.raises(GRPCError, match="pod range"):
            await kubelet.runtime.UpdateRuntimeConfig(request("nonsense"))
        await kubelet.runtime.UpdateRuntimeConfig(request("10.4.0.0/24,fd00::/64"))
        (file,) = folder.glob("*.conflist")
        assert json.loads(file.read_text())["subnet"] == "10.4.0.0/24"
    both = "[{{range $i, $one := .PodCIDRRanges}}{{if $i}}, {{end}}{{.}}{{end}}]"
    assert filled(both, ["a", "b"]) == "[a, b]"
    assert filled("{{range .PodCIDRRanges}}<{{.}}>{{end}}", ["a", "b"]) == "<a><b>"


async def test_figures(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    one = await kubelet.run(pod, labels={"k": "v"})
    await kubelet.create(pod, kubelet.container_config())
    request = pb.ContainerStatsRequest(container_id=one)
    stats = (await kubelet.runtime.ContainerStats(request)).stats
    assert stats.attributes.labels == {"k": "v"}
    assert stats.memory.usage_bytes.value > 0
    wanted = pb.ContainerStatsFilter(label_selector={"k": "v"})
    listed = await kubelet.runtime.ListContainerStats(pb.ListContainerStatsRequest(filter=wanted))
    assert [each.attributes.id for each in listed.stats] == [one]
    streamed = await kubelet.runtime.StreamContainerStats(pb.StreamContainerStatsRequest())
    assert sum(len(each.container_stats) for each in streamed) == 2
    told = await kubelet.runtime.PodSandboxStats(pb.PodSandboxStatsRequest(pod_sandbox_id=pod))
    assert [each.attributes.id for each in told.stats.linux.containers] == [one]
    whole = await kubelet.runtime.ListPodSandboxStats(pb.ListPodSandboxStatsRequest())
    assert [each.attributes.id for each in whole.stats] == [pod]
    assert await kubelet.runtime.StreamPodSandboxStats(pb.StreamPodSandboxStatsRequest())
    described = await kubelet.runtime.ListMetricDescriptors(pb.ListMetricDescriptorsRequest())
    known = {each.name for each in described.descriptors}
    metrics = await kubelet.runtime.ListPodSandboxMetrics(pb.ListPodSandboxMetricsRequest())
    (mine,) = metrics.pod_metrics
    names = {each.name for each in mine.container_metrics[0].metrics}
    assert "container_threads" in names
    assert names <= known
    assert await kubelet.runtime.StreamPodSandboxMetrics(pb.StreamPodSandboxMetricsRequest())
    with pytest.raises(GRPCError):
        await kubelet.runtime.ContainerStats(pb.ContainerStatsRequest(container_id="no"))


async def test_limits_of_a_pod(kubelet: Any) -> None:
    config = kubelet.pod_config()
    config.linux.cgroup_parent = ""
    pod = await kubelet.run_pod(config)
    await kubelet.run(pod)
    resources = pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20)
    overhead = pb.LinuxContainerResources(memory_limit_in_bytes=1 << 20)
    request = pb.UpdatePodSandboxResourcesRequest(
        pod_sandbox_id=pod, resources=resources, overhead=overhead
    )
    await kubelet.runtime.UpdatePodSandboxResources(request)
    folder = f"/k8s.io/pod-{pod}"
    limit = Path(f"/sys/fs/cgroup/memory{folder}/memory.limit_in_bytes")
    if not limit.exists():
        limit = Path(f"/sys/fs/cgroup{folder}/memory.max")
    assert int(limit.read_text()) == 65 << 20
    await kubelet.remove_pod(pod)
    assert not limit.parent.exists()


async def test_pause_image(kubelet: Any) -> None:
    config = kubelet.pod_config(namespaces={"pid": pb.POD})
    config.annotations[PAUSE_ANNOTATION] = "example.com/busybox:1"
    pod = await kubelet.run_pod(config)
    container = await kubelet.run(pod)
    listed = (await kubelet.exec(container, "ps", "-o", "pid,args")).stdout.decode()
    assert re.search(r"^\s*1 sleep 1000$", listed, re.MULTILINE)
    await kubelet.remove_pod(pod)
    config.annotations[PAUSE_ANNOTATION] = "example.com/none:1"
    with pytest.raises(GRPCError, match="pull it first"):
        await kubelet.run_pod(config)
    assert kubelet.cri.pods == {}


class Recorder:
    """An NRI plugin that notes what it is told, and changes one thing."""

    name, index = "recorder", "10"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.veto = ""

    def run_pod_sandbox(self, pod: nri_pb.PodSandbox) -> None:
        self._note("run_pod", pod.name)

    def stop_pod_sandbox(self, pod: nri_pb.PodSandbox) -> None:
        self._note("stop_pod", pod.name)

    def remove_pod_sandbox(self, pod: nri_pb.PodSandbox) -> None:
        self._note("remove_pod", pod.name)

    def create_container(self, pod: Any, container: Any) -> nri_pb.ContainerAdjustment:
        self._note("create", container.name)
        return nri_pb.ContainerAdjustment(env=[nri_pb.KeyValue(key="FROM_PLUGIN", value="yes")])

    def start_container(self, pod: Any, container: Any) -> None:
        self._note("start", container.name)

    def update_container(self, pod: Any, container: Any, resources: Any) -> None:
        self._note("update", container.name)

    def stop_container(self, pod: Any, container: Any) -> None:
        self._note("stop", container.name)

    def remove_container(self, pod: Any, container: Any) -> None:
        self._note("remove", container.name)

    def _note(self, what: str, name: str) -> None:
        self.seen.append(f"{what} {name}")
        if what == self.veto:
            raise ValueError("not today")


async def test_plugins(kubelet: Any) -> None:
    recorder = Recorder()
    kubelet.cri.plugged = Plugged(kubelet.cri, NriConfig(listen=False), [recorder])
    await kubelet.cri.plugged.start()
    pod = await kubelet.run_pod(kubelet.pod_config("p"))
    container = await kubelet.run(pod, "sh", "-c", "echo $FROM_PLUGIN; exec sleep 99", name="c")
    await kubelet.until(lambda: kubelet.log(container) == "yes\n")
    resources = pb.LinuxContainerResources(cpu_shares=300)
    await kubelet.runtime.UpdateContainerResources(
        pb.UpdateContainerResourcesRequest(container_id=container, linux=resources)
    )
    await kubelet.remove_pod(pod)
    assert recorder.seen == [
        "run_pod p", "create c", "start c", "update c", "stop c", "stop_pod p", "remove c",
        "remove_pod p",
    ]  # fmt: skip
    recorder.veto = "run_pod"
    with pytest.raises(GRPCError, match="not today"):
        await kubelet.run_pod(kubelet.pod_config("q"))
    assert kubelet.cri.pods == {}
    recorder.veto = "create"
    pod = await kubelet.run_pod(kubelet.pod_config("q"))
    with pytest.raises(GRPCError, match="not today"):
        await kubelet.run(pod, name="c")
    assert kubelet.cri.containers == {}
    recorder.veto = ""
    await kubelet.run(pod, name="c")


async def test_the_error_of_the_step_that_failed() -> None:
    ended = []

    async def fails() -> None:
        raise NotFound("x")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    with pytest.raises(NotFound):
        await together(waits(), fails())
    assert ended == [1]


class Daemon:
    """A sampand as a program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sock = folder / "d.sock"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        import socket

        notify = self.folder / "n"
        notify.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
            self._log.open("ab") as log,
        ):
            ready.bind(str(notify))
            ready.settimeout(30)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sampan.daemon.main"]
                + [f"--{name}={self.folder / name}" for name in ("root", "state")]
                + [f"--address={self.sock}"],
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            assert ready.recv(100).startswith(b"READY=1")

    def end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)


async def test_a_daemon_killed_at_any_moment(
    open_kubelet: Any, short_path: Path, cgroup_parent: str
) -> None:
    """Calls are under way when it dies; afterwards everything can be removed, and nothing stays."""
    async with open_kubelet() as kubelet:
        config = kubelet.pod_config  # the image is in the store from here on
        wanted = [config(f"k{number}") for number in range(6)]
        containers = [kubelet.container_config(name="c") for _ in wanted]
    daemon = Daemon(short_path)
    daemon.start()
    try:
        await _kill_and_look(daemon, wanted, containers)
    finally:
        daemon.end(signal.SIGTERM)
    state = short_path / "state"
    assert str(state) not in Path("/proc/self/mountinfo").read_text()
    assert list((state / "io.containerd.grpc.v1.cri").glob("[cs]*/*")) == []
    assert list((state / "s").iterdir()) == []


async def _kill_and_look(daemon: Daemon, wanted: list[Any], containers: list[Any]) -> None:
    made = 0
    for turn in range(3):
        async with Channel(path=str(daemon.sock)) as channel:
            runtime = RuntimeServiceStub(channel)

            async def build(number: int, runtime: RuntimeServiceStub = runtime) -> None:
                nonlocal made
                request = pb.RunPodSandboxRequest(config=wanted[number])
                pod = (await runtime.RunPodSandbox(request)).pod_sandbox_id
                created = await runtime.CreateContainer(
                    pb.CreateContainerRequest(pod_sandbox_id=pod, config=containers[number])
                )
                await runtime.StartContainer(
                    pb.StartContainerRequest(container_id=created.container_id)
                )
                made += 1

            works = [asyncio.ensure_future(build(2 * turn + number)) for number in range(2)]
            await asyncio.wait(works, timeout=(0.02, 0.07, 0.15)[turn])
            daemon.end(signal.SIGKILL)
            await asyncio.gather(*works, return_exceptions=True)
        daemon.start()
    async with Channel(path=str(daemon.sock)) as channel:
        runtime = RuntimeServiceStub(channel)
        pods = (await runtime.ListPodSandbox(pb.ListPodSandboxRequest())).items
        assert len(pods) >= made
        for pod in pods:
            await runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=pod.id))
        left = (await runtime.ListContainers(pb.ListContainersRequest())).containers
        assert list(left) == []
