"""Plugins and real containers: what they add is inside, what they limit the kernel enforces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from sampan.api.cri.v1 import api_pb2 as cri
from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import NriConfig
from sampan.cri.plugged import Plugged
from sampan.testing import requires

pytestmark = requires("root", "busybox", "cgroup:memory")


class Changing:
    """Changes every container, and notes what happens."""

    name, index = "changing", "10"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.veto = ""

    def create_container(self, pod: pb.PodSandbox, container: pb.Container) -> Any:
        if self.veto:
            raise RuntimeError(self.veto)
        self.seen.append(f"create {container.name}")
        made = pb.ContainerAdjustment()
        made.env.add(key="FROM_PLUGIN", value=pod.name)
        made.env.add(key="-FROM_IMAGE")
        made.mounts.add(destination="/plugin", type="tmpfs", source="tmpfs", options=["nosuid"])
        made.rlimits.add(type="RLIMIT_NOFILE", hard=321, soft=123)
        device = made.linux.devices.add(path="/dev/ours", type="c", major=1, minor=7)
        device.file_mode.value = 0o666
        made.linux.resources.memory.limit.value = 64 << 20
        made.linux.oom_score_adj.value = 321
        return made

    def update_container(
        self, pod: pb.PodSandbox, container: pb.Container, resources: pb.LinuxResources
    ) -> list[pb.ContainerUpdate]:
        made = pb.ContainerUpdate(container_id=container.id)
        made.linux.resources.memory.limit.value = resources.memory.limit.value + (16 << 20)
        return [made]

    def run_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        self.seen.append(f"run {pod.name}")

    def post_create_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        self.seen.append(f"created {container.name}")

    def start_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        self.seen.append(f"start {container.name}")

    def post_start_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        assert container.pid > 0
        self.seen.append(f"started {container.name}")

    def stop_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        self.seen.append(f"stop {container.name}")

    def remove_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        self.seen.append(f"remove {container.name}")

    def stop_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        self.seen.append(f"stop {pod.name}")

    def remove_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        self.seen.append(f"remove {pod.name}")


async def plugged(kubelet: Any, folder: Path, plugin: object) -> Plugged:
    config = NriConfig(listen=False, plugins=folder, plugin_config=folder)
    made = Plugged(kubelet.cri, config, [plugin])
    kubelet.cri.plugged = made
    await made.start()
    return made


async def test_what_a_plugin_changes_is_so(kubelet: Any, tmp_path: Path) -> None:
    plugin = Changing()
    await plugged(kubelet, tmp_path, plugin)
    pod = await kubelet.run_pod(kubelet.pod_config("p"))
    script = (
        "echo [$FROM_PLUGIN] [$FROM_IMAGE] $(ulimit -n) $(cat /proc/self/oom_score_adj); "
        "grep ' /plugin ' /proc/self/mountinfo; echo x > /dev/ours || echo full"
    )
    text = await kubelet.output(pod, "sh", "-c", script, name="c")
    assert text.startswith("[p] [] 123 321\n")
    assert "nosuid" in text
    assert "\nfull\n" in text
    running = await kubelet.run(pod, name="d")
    status = await kubelet.status(running)
    assert status.resources.linux.memory_limit_in_bytes == 64 << 20
    stats = await kubelet.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=running))
    assert 0 < stats.stats.memory.available_bytes.value <= 64 << 20
    update = cri.UpdateContainerResourcesRequest(container_id=running)
    update.linux.memory_limit_in_bytes = 32 << 20
    await kubelet.runtime.UpdateContainerResources(update)
    status = await kubelet.status(running)
    assert status.resources.linux.memory_limit_in_bytes == 48 << 20
    await kubelet.stop(running)
    await kubelet.remove(running)
    await kubelet.stop_pod(pod)
    await kubelet.remove_pod(pod)
    life = [f"{step} d" for step in ("create", "created", "start", "started", "stop", "remove")]
    assert [one for one in plugin.seen if one.endswith(" d")] == life
    assert plugin.seen[0] == "run p"
    assert plugin.seen[-3:] == ["stop p", "remove c", "remove p"]


async def test_a_veto_leaves_nothing(kubelet: Any, tmp_path: Path) -> None:
    plugin = Changing()
    await plugged(kubelet, tmp_path, plugin)
    pod = await kubelet.run_pod()
    plugin.veto = "not this one"
    with pytest.raises(GRPCError, match=r"10-changing refuses CreateContainer.*not this one"):
        await kubelet.create(pod, kubelet.container_config(name="v"))
    assert not kubelet.cri.containers
    plugin.veto = ""
    await kubelet.create(pod, kubelet.container_config(name="v"))


class WithCdi:
    """Wants a device by its CDI name."""

    def create_container(self, pod: pb.PodSandbox, container: pb.Container) -> Any:
        made = pb.ContainerAdjustment(env=[pb.KeyValue(key="BOTH", value="1")])
        made.CDI_devices.add(name="example.com/null=zero")
        return made


async def test_cdi_devices_of_a_plugin(open_kubelet: Any, tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    folder.mkdir()
    edits = {"env": ["CDI=yes"], "deviceNodes": [{"path": "/dev/cdi", "hostPath": "/dev/zero"}]}
    document = {
        "cdiVersion": "0.6.0",
        "kind": "example.com/null",
        "devices": [{"name": "zero", "containerEdits": edits}],
    }
    (folder / "example.json").write_text(json.dumps(document))
    async with open_kubelet(runtime={"cdi_spec_dirs": [str(folder)]}) as kubelet:
        await plugged(kubelet, tmp_path, WithCdi())
        pod = await kubelet.run_pod()
        script = "echo $CDI $BOTH; head -c 3 /dev/cdi | wc -c"
        assert await kubelet.output(pod, "sh", "-c", script) == "yes 1\n3\n"
        await kubelet.remove_pod(pod)
