"""Statistics of real cgroups, processes and interfaces."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cgroups import Manager
from sampan.cri.stats import ContainerTarget, Layer, PodTarget, Stats
from sampan.cri.stats.collect import collect, descriptors, soft_limits
from sampan.cri.stats.interfaces import interfaces
from sampan.testing import requires

pytestmark = requires("root", "cgroup:memory", "cgroup:pids", "cgroup:cpuacct")

BUSY = "x = bytearray(40 << 20)\nfor at in range(0, len(x), 4096): x[at] = 1\n"


@pytest.fixture
def pod() -> Iterator[Manager]:
    made = Manager(f"/sampan-test-{uuid.uuid4().hex}")
    made.create()
    yield made
    if made.exists():
        made.kill_all()
        made.delete()


@pytest.fixture
def container(pod: Manager) -> Iterator[Manager]:
    """A cgroup with a process that has used CPU time and 40 MiB, and waits."""
    made = pod.child("c1")
    made.create()
    join = "".join(
        f"open({folder + '/cgroup.procs'!r}, 'w').write('0')\n" for folder in made.paths.values()
    )
    busy = (
        "import time; start = time.process_time()\n"
        "while time.process_time() - start < 0.05: pass\n"
        "print('ready', flush=True)\ninput()"
    )
    process = subprocess.Popen(
        ["python3", "-I", "-S", "-c", join + BUSY + busy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    yield made
    process.stdin.close()
    process.wait(timeout=20)
    process.stdout.close()
    made.delete()


def test_a_cgroup(container: Manager, pod: Manager) -> None:
    found = collect(container.path)
    assert found is not None
    assert found.cpu_ns is not None
    assert found.memory_bytes is not None
    assert 0.04e9 < found.cpu_ns < 20e9
    assert 40 << 20 <= found.rss_bytes <= found.memory_bytes < 200 << 20
    assert found.working_set_bytes >= 40 << 20
    assert found.page_faults >= 10000
    assert found.memory_limit is None
    assert (len(found.pids), found.threads) == (1, 1)
    if os.path.exists(f"{container.paths.get('', '')}/memory.pressure"):
        assert found.memory_pressure is not None
        assert found.memory_pressure.some is not None
    whole = collect(pod.path)
    assert whole is not None
    assert whole.cpu_ns is not None
    assert whole.cpu_ns >= found.cpu_ns
    assert whole.pids == found.pids
    assert descriptors(found.pids).files == 3
    assert soft_limits(found.pids[0])["RLIMIT_NOFILE"] > 0
    assert collect("/sampan-test-no-such-cgroup") is None


def container_target(manager: Manager) -> ContainerTarget:
    attributes = pb.ContainerAttributes(id="c1", metadata=pb.ContainerMetadata(name="name"))
    return ContainerTarget(
        attributes,
        manager.path,
        time.time_ns() - 1_000_000_000,
        "busybox",
        Layer(1, 2, 3, "/m"),
        "/",
        {"linux": {"resources": {"cpu": {"shares": 512}}}},
    )


async def test_answers_of_the_cri(container: Manager, pod: Manager) -> None:
    stats = Stats()
    one = await stats.container(container_target(container))
    # The first rate is the average since the start; the second call comes too soon for another.
    assert 0 < one.cpu.usage_nano_cores.value < 4_000_000_000
    again = await stats.container(container_target(container))
    assert again.cpu.usage_nano_cores == one.cpu.usage_nano_cores
    attributes = pb.PodSandboxAttributes(
        id="p", metadata=pb.PodSandboxMetadata(name="pod", namespace="ns")
    )
    gone = container_target(container)._replace(
        attributes=pb.ContainerAttributes(id="c2"), cgroup=""
    )
    target = PodTarget(attributes, pod.path, "", (container_target(container), gone))
    whole = await stats.pod(target)
    assert whole.linux.process.process_count.value == 1
    assert whole.linux.memory.rss_bytes.value >= 40 << 20
    assert [one.attributes.id for one in whole.linux.containers] == ["c1", "c2"]
    assert not whole.linux.containers[1].HasField("cpu")
    summed = await stats.pod(target._replace(cgroup=""))
    assert summed.linux.memory.rss_bytes.value >= 40 << 20
    metrics = await stats.metrics(target)
    assert [one.container_id for one in metrics.container_metrics] == ["c1"]
    values = {one.name: one.value.value for one in metrics.container_metrics[0].metrics}
    assert values["container_threads"] == 1
    assert values["container_spec_cpu_shares"] == 512
    assert values["container_file_descriptors"] == 3
    assert values["container_fs_limit_bytes"] > 0
    labels = metrics.container_metrics[0].metrics[0].label_values
    assert list(labels) == ["pod", "ns", "name", "c1", "busybox"]
    stats.forget("c1")


def test_interfaces_of_another_namespace(tmp_path: Path) -> None:
    path = tmp_path / "netns"
    path.touch()
    script = (
        "ip link add eth0 type veth peer name other; ip link set eth0 up; ip link set other up; "
        "ip addr add 192.0.2.1/24 dev eth0; "
        "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:01 dev eth0; "
        "echo x > /dev/udp/192.0.2.2/9; echo x > /dev/udp/192.0.2.2/9"
    )
    subprocess.run(["unshare", f"--net={path}", "bash", "-c", script], check=True, timeout=20)
    try:
        found = interfaces(str(path))
        assert found is not None
        by_name = {one.name: one for one in found}
        assert by_name.keys() == {"eth0", "other"}
        assert by_name["eth0"].tx_packets >= 2
        assert by_name["eth0"].tx_bytes == by_name["other"].rx_bytes > 60
    finally:
        subprocess.run(["umount", path], check=True, timeout=20)
    assert interfaces(str(tmp_path / "gone")) is None
