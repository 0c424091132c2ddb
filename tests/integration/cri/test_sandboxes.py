"""Pods: what they share, how they end, and that ending them again and again is fine."""

# ruff: noqa: ASYNC240  small files of the test's own

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan import context
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.storage.snapshots import Kind
from sampan.testing import requires, unique_name

pytestmark = requires("root", "busybox")


async def test_life(kubelet: Any) -> None:
    config = kubelet.pod_config("one")
    pod = await kubelet.run_pod(config)
    status = await kubelet.pod_status(pod)
    assert (status.state, status.metadata.name) == (pb.SANDBOX_READY, "one")
    assert status.linux.namespaces.options.network == pb.NODE
    await kubelet.stop_pod(pod)
    assert (await kubelet.pod_status(pod)).state == pb.SANDBOX_NOTREADY
    await kubelet.stop_pod(pod)
    await kubelet.remove_pod(pod)
    await kubelet.remove_pod(pod)
    await kubelet.stop_pod(pod)
    with pytest.raises(GRPCError) as caught:
        await kubelet.pod_status(pod)
    assert caught.value.status is Status.NOT_FOUND
    assert list(kubelet.cri.state.glob("*/*")) == []


async def test_no_process_and_no_mount_is_left(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    await kubelet.run(pod)
    await kubelet.remove_pod(pod)
    text = Path("/proc/self/mountinfo").read_text()
    assert str(kubelet.cri.state) not in text
    assert list((kubelet.cri.engine.settings.state / "s").iterdir()) == []
    with context.scope("k8s.io"):
        left = [one async for one in kubelet.cri.engine.metadata.snapshotter("overlayfs").walk()]
    assert [one.kind for one in left] == [Kind.COMMITTED]


async def test_a_name_belongs_to_one_pod(kubelet: Any) -> None:
    config = kubelet.pod_config("taken")
    pod = await kubelet.run_pod(config)
    with pytest.raises(GRPCError) as caught:
        await kubelet.run_pod(config)
    assert caught.value.status is Status.ALREADY_EXISTS
    await kubelet.remove_pod(pod)
    assert await kubelet.run_pod(config) != pod


async def test_a_retry_joins_the_attempt_under_way(kubelet: Any) -> None:
    config = kubelet.pod_config("twice")
    one, two = await asyncio.gather(kubelet.run_pod(config), kubelet.run_pod(config))
    assert one == two
    assert len(kubelet.cri.pods) == 1


async def test_a_caller_who_gives_up_finds_the_pod_later(kubelet: Any) -> None:
    config = kubelet.pod_config("slow")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await kubelet.run_pod(config)
    first = asyncio.ensure_future(kubelet.run_pod(config))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    async with asyncio.timeout(20):
        while not kubelet.cri.pods:
            try:
                await kubelet.run_pod(config)
            except GRPCError as err:
                assert err.status is Status.ALREADY_EXISTS  # noqa: PT017
    assert len(kubelet.cri.pods) == 1


async def test_own_ipc_uts_and_shared_memory(kubelet: Any) -> None:
    config = kubelet.pod_config(namespaces={"network": pb.POD})
    config.hostname = "pod-host"
    config.linux.security_context.namespace_options.network = pb.NODE
    pod = await kubelet.run_pod(config)
    first = await kubelet.run(pod, "sh", "-c", "echo here > /dev/shm/file; exec sleep 1000")
    second = await kubelet.run(pod)
    ours = os.readlink("/proc/self/ns/ipc")
    there = (await kubelet.exec(first, "readlink", "/proc/self/ns/ipc")).stdout.decode().strip()
    again = (await kubelet.exec(second, "readlink", "/proc/self/ns/ipc")).stdout.decode().strip()
    assert there == again != ours
    assert (await kubelet.exec(second, "cat", "/dev/shm/file")).stdout == b"here\n"


async def test_shared_pid_namespace_has_a_first_process_of_ours(kubelet: Any) -> None:
    pod = await kubelet.run_pod(kubelet.pod_config(namespaces={"pid": pb.POD}))
    one, two = await kubelet.run(pod), await kubelet.run(pod, "sleep", "4321")
    listed = (await kubelet.exec(one, "ps", "-o", "pid,args")).stdout.decode()
    assert "1 /pause" in listed
    assert "sleep 4321" in listed
    # An orphan is adopted and reaped by it.
    await kubelet.exec(one, "sh", "-c", "(sleep 0.01 &)")
    await kubelet.exec(two, "sleep", "0.1")
    listed = (await kubelet.exec(one, "ps", "-o", "pid,stat,args")).stdout.decode()
    assert " Z" not in listed
    await kubelet.stop(two)
    assert (await kubelet.status(one)).state == pb.CONTAINER_RUNNING


async def test_target_pid_namespace(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    target = await kubelet.run(pod, "sleep", "777")
    linux = pb.LinuxContainerConfig(
        security_context=pb.LinuxContainerSecurityContext(
            namespace_options=pb.NamespaceOption(network=pb.NODE, pid=pb.TARGET, target_id=target)
        )
    )
    debugger = await kubelet.run(pod, linux=linux)
    listed = (await kubelet.exec(debugger, "ps", "-o", "args")).stdout.decode()
    assert "sleep 777" in listed


async def test_refused_requests(kubelet: Any) -> None:
    for namespaces in (
        {"ipc": pb.CONTAINER},
        {"pid": pb.TARGET},
        {"userns_options": pb.UserNamespace(mode=pb.CONTAINER)},
        {"userns_options": pb.UserNamespace(mode=pb.POD)},
    ):
        with pytest.raises(GRPCError) as caught:
            await kubelet.run_pod(kubelet.pod_config(namespaces=namespaces))
        assert caught.value.status is Status.INVALID_ARGUMENT
    config = kubelet.pod_config()
    config.hostname = "h" * 65
    with pytest.raises(GRPCError, match="longer than 64"):
        await kubelet.run_pod(config)
    config = kubelet.pod_config()
    config.linux.sysctls["kernel.hostname"] = "x"
    with pytest.raises(GRPCError, match="would change the node"):
        await kubelet.run_pod(config)
    request = pb.RunPodSandboxRequest(config=kubelet.pod_config(), runtime_handler="none")
    with pytest.raises(GRPCError) as caught:
        await kubelet.runtime.RunPodSandbox(request)
    assert caught.value.status is Status.NOT_FOUND
    assert kubelet.cri.pods == {}


async def test_lists_and_filters(kubelet: Any) -> None:
    one, two = await kubelet.run_pod(), await kubelet.run_pod()
    await kubelet.stop_pod(two)

    async def ids(**wanted: Any) -> set[str]:
        request = pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(**wanted))
        return {item.id for item in (await kubelet.runtime.ListPodSandbox(request)).items}

    assert await ids() == {one, two}
    assert await ids(state=pb.PodSandboxStateValue(state=pb.SANDBOX_READY)) == {one}
    assert await ids(id=two[:12]) == {two}
    assert await ids(label_selector={"pod": "p1"}) == {two}
    assert await ids(label_selector={"pod": "none"}) == set()
    streamed = await kubelet.runtime.StreamPodSandboxes(pb.StreamPodSandboxesRequest())
    assert {item.id for answer in streamed for item in answer.pod_sandboxes} == {one, two}


async def test_network_of_a_pod(open_kubelet: Any, bridge: str) -> None:
    async with open_kubelet(cni=bridge) as kubelet:
        config = kubelet.pod_config(namespaces={"network": pb.POD})
        config.hostname = "pod-host"
        config.linux.sysctls["net.ipv4.ip_forward"] = "1"
        config.dns_config.servers.append("10.1.2.3")
        config.dns_config.searches.append("example.org")
        pod = await kubelet.run_pod(config)
        try:
            ip = (await kubelet.pod_status(pod)).network.ip
            assert ip.startswith("10.88.231.")
            container = await kubelet.run(pod)
            text = (
                await kubelet.exec(
                    container,
                    "sh",
                    "-c",
                    "hostname; cat /proc/sys/net/ipv4/ip_forward /etc/resolv.conf; ip addr",
                )
            ).stdout.decode()
            assert text.startswith("pod-host\n1\nsearch example.org\nnameserver 10.1.2.3\n")
            assert ip in text
        finally:
            await kubelet.remove_pod(pod)
        assert not (kubelet.cri.engine.settings.state / "netns" / pod).exists()


async def test_a_network_that_fails_is_tried_again(open_kubelet: Any, short_path: Path) -> None:
    folder, programs = short_path / "broken.d", short_path / "bin"
    for one in (folder, programs):
        one.mkdir()
    kind = unique_name("plugin")
    text = {"cniVersion": "1.0.0", "name": kind, "plugins": [{"type": kind}]}
    (folder / "1.conflist").write_text(json.dumps(text))
    runtime = {"cni": {"conf_dir": str(folder), "bin_dirs": [str(programs)]}}
    async with open_kubelet(runtime=runtime) as kubelet:
        with pytest.raises(GRPCError, match=kind):
            await kubelet.run_pod(kubelet.pod_config(namespaces={"network": pb.POD}))
        # It could not be torn down either: the pod is kept, and nothing of it but its name.
        (pod,) = kubelet.cri.pods
        assert (await kubelet.pod_status(pod)).state == pb.SANDBOX_NOTREADY
        assert str(kubelet.cri.state) not in Path("/proc/self/mountinfo").read_text()
        with pytest.raises(GRPCError, match=kind):
            await kubelet.remove_pod(pod)
        (programs / kind).write_text("#!/bin/sh\nexit 0\n")
        (programs / kind).chmod(0o755)
        await kubelet.remove_pod(pod)
        assert kubelet.cri.pods == {}
