"""Stats and metrics of real pods, as kubelet asks for them."""

from __future__ import annotations

from typing import Any

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.stats.metrics import TABLE
from sampan.testing import requires

pytestmark = requires("root", "busybox", "cgroup:memory")

WORK = "dd if=/dev/zero of=/file bs=1M count=3 2>/dev/null; i=0; " + (
    "while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; sleep 1000"
)


async def test_a_pod_with_a_network(open_kubelet: Any, bridge: str) -> None:
    async with open_kubelet(cni=bridge) as kubelet:
        pod = await kubelet.run_pod(kubelet.pod_config(namespaces={"network": pb.POD}))
        config = kubelet.container_config("sh", "-c", WORK, name="c")
        options = pb.NamespaceOption(network=pb.POD, pid=pb.CONTAINER)
        config.linux.security_context.namespace_options.CopyFrom(options)
        container = await kubelet.create(pod, config)
        await kubelet.start(container)
        wait = "until grep -q . /proc/1/comm; do sleep 0.01; done; ping -c 1 -W 1 127.0.0.1"
        await kubelet.exec(container, "sh", "-c", wait)
        await kubelet.exec(container, "sh", "-c", "until [ -s /file ]; do sleep 0.01; done")
        stats = (
            await kubelet.runtime.ContainerStats(pb.ContainerStatsRequest(container_id=container))
        ).stats
        assert stats.attributes.metadata.name == "c"
        assert stats.cpu.usage_core_nano_seconds.value > 0
        assert stats.cpu.usage_nano_cores.value > 0
        assert stats.memory.usage_bytes.value >= stats.memory.working_set_bytes.value > 0
        assert stats.writable_layer.used_bytes.value > 0
        assert stats.writable_layer.inodes_used.value > 0
        answer = await kubelet.runtime.PodSandboxStats(
            pb.PodSandboxStatsRequest(pod_sandbox_id=pod)
        )
        linux = answer.stats.linux
        assert linux.network.default_interface.name == "eth0"
        assert linux.process.process_count.value >= 1
        assert [one.attributes.id for one in linux.containers] == [container]
        assert linux.cpu.usage_core_nano_seconds.value >= stats.cpu.usage_core_nano_seconds.value
        metrics = await kubelet.runtime.ListPodSandboxMetrics(pb.ListPodSandboxMetricsRequest())
        (mine,) = [one for one in metrics.pod_metrics if one.pod_sandbox_id == pod]
        names = {one.name for one in mine.metrics}
        assert "container_network_receive_bytes_total" in names
        names |= {one.name for one in mine.container_metrics[0].metrics}
        assert "container_threads" in names
        described = await kubelet.runtime.ListMetricDescriptors(pb.ListMetricDescriptorsRequest())
        assert names <= {one.name for one in described.descriptors} == TABLE.keys()
        await kubelet.remove_pod(pod)


async def test_lists_and_what_has_ended(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    running = await kubelet.run(pod)
    ended = await kubelet.run(pod, "true")
    await kubelet.ended(ended)
    listed = await kubelet.runtime.ListContainerStats(
        pb.ListContainerStatsRequest(filter=pb.ContainerStatsFilter(pod_sandbox_id=pod))
    )
    assert [one.attributes.id for one in listed.stats] == [running]
    one = await kubelet.runtime.ContainerStats(pb.ContainerStatsRequest(container_id=ended))
    assert not one.stats.HasField("cpu")
    assert one.stats.HasField("writable_layer")
    pods = await kubelet.runtime.ListPodSandboxStats(pb.ListPodSandboxStatsRequest())
    (mine,) = [one for one in pods.stats if one.attributes.id == pod]
    assert not mine.linux.HasField("network")  # the host's is not the pod's
    assert mine.linux.process.process_count.value >= 1
