"""Figures as messages: what is known is there, what is not stays unset."""

from __future__ import annotations

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.stats import Layer
from sampan.cri.stats.collect import Figures, Pressure, Stall
from sampan.cri.stats.interfaces import Interface
from sampan.cri.stats.messages import container_stats, network_usage, pod_stats

STALL = Stall(1.5, 2.5, 3.5, 4000)
FIGURES = Figures(
    9,
    cpu_ns=50,
    memory_bytes=1000,
    memory_limit=2000,
    working_set_bytes=700,
    rss_bytes=400,
    page_faults=11,
    major_page_faults=4,
    swap_bytes=64,
    swap_limit=100,
    pids=(1, 2),
    cpu_pressure=Pressure(STALL, None),
    memory_pressure=Pressure(STALL, STALL),
    io_pressure=Pressure(STALL, STALL),
)


def network(name: str, base: int) -> Interface:
    return Interface(name, *range(base, base + 8))


def test_a_running_container() -> None:
    attributes = pb.ContainerAttributes(id="c1", labels={"a": "b"})
    made = container_stats(attributes, FIGURES, 7, Layer(8, 4096, 3, "/var/lib/snapshots"))
    assert made.attributes == attributes
    assert (made.cpu.timestamp, made.cpu.usage_core_nano_seconds.value) == (9, 50)
    assert made.cpu.usage_nano_cores.value == 7
    assert (made.cpu.psi.Some.Total, made.cpu.psi.Some.Avg300) == (4000, 3.5)
    assert not made.cpu.psi.HasField("Full")
    assert made.memory.working_set_bytes.value == 700
    assert made.memory.available_bytes.value == 1300
    assert (made.memory.usage_bytes.value, made.memory.rss_bytes.value) == (1000, 400)
    assert (made.memory.page_faults.value, made.memory.major_page_faults.value) == (11, 4)
    assert made.memory.psi.Full.Avg10 == 1.5
    assert (made.swap.swap_usage_bytes.value, made.swap.swap_available_bytes.value) == (64, 36)
    assert made.io.psi.Full.Total == 4000
    layer = made.writable_layer
    assert (layer.used_bytes.value, layer.inodes_used.value, layer.timestamp) == (4096, 3, 8)
    assert layer.fs_id.mountpoint == "/var/lib/snapshots"


def test_one_that_has_exited_has_its_layer_alone() -> None:
    made = container_stats(pb.ContainerAttributes(id="c1"), None, None, Layer(8, 1, 1, "/m"))
    assert made.HasField("writable_layer")
    assert {field.name for field, _ in made.ListFields()} == {"attributes", "writable_layer"}


def test_what_the_host_does_not_count_is_unset() -> None:
    made = container_stats(pb.ContainerAttributes(), Figures(9))
    assert not made.cpu.HasField("usage_core_nano_seconds")
    assert not made.cpu.HasField("usage_nano_cores")
    assert not made.memory.HasField("usage_bytes")
    assert not made.HasField("swap")
    unlimited = container_stats(pb.ContainerAttributes(), Figures(9, memory_bytes=5))
    assert unlimited.memory.HasField("available_bytes")
    assert unlimited.memory.available_bytes.value == 0


def test_a_pod() -> None:
    containers = [container_stats(pb.ContainerAttributes(id="c1"), FIGURES)]
    made = pod_stats(
        pb.PodSandboxAttributes(id="p"), FIGURES, 3, [network("eth0", 1)], 12, containers
    )
    assert made.attributes.id == "p"
    assert made.linux.containers[0].attributes.id == "c1"
    assert made.linux.process.process_count.value == 2
    assert made.linux.cpu.usage_nano_cores.value == 3
    assert made.linux.network.timestamp == 12
    assert made.linux.network.default_interface.rx_bytes.value == 1
    host = pod_stats(pb.PodSandboxAttributes(id="p"), None, None, None, 12, [])
    assert not host.linux.HasField("network")
    assert not host.linux.HasField("cpu")


def test_the_default_interface() -> None:
    usage = network_usage([network("net1", 10), network("eth0", 20)], 1)
    assert usage.default_interface.name == "eth0"
    assert [one.name for one in usage.interfaces] == ["net1"]
    assert (usage.default_interface.tx_bytes.value, usage.default_interface.tx_errors.value) == (
        24,
        26,
    )
    assert network_usage([network("ens3", 1)], 1).default_interface.name == "ens3"
