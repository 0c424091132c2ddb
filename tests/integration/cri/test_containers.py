"""Containers: how they are born, what they are allowed, how they end, and what is told of it."""

# ruff: noqa: ASYNC240  small files of the test's own

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.containers.signals import number_of, signal_enum
from sampan.testing import requires

pytestmark = requires("root", "busybox")


def secured(**security: Any) -> pb.LinuxContainerConfig:
    """A container of a pod on the host's network, with this security context."""
    options = pb.NamespaceOption(network=pb.NODE, pid=pb.CONTAINER)
    context = pb.LinuxContainerSecurityContext(namespace_options=options, **security)
    return pb.LinuxContainerConfig(security_context=context)


async def test_life(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    config = kubelet.container_config("sh", "-c", "echo out; echo err >&2; exit 3", name="c")
    config.linux.CopyFrom(secured())
    config.labels["a"] = "b"
    container = await kubelet.create(pod, config)
    status = await kubelet.status(container)
    assert (status.state, status.started_at) == (pb.CONTAINER_CREATED, 0)
    await kubelet.start(container)
    status = await kubelet.ended(container)
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 3, "Error")
    assert 0 < status.created_at < status.started_at < status.finished_at
    assert status.image_id == status.image_ref
    assert status.labels == {"a": "b"}
    assert sorted(kubelet.log(container).splitlines()) == ["err", "out"]
    with pytest.raises(GRPCError, match="not created"):
        await kubelet.start(container)
    await kubelet.remove(container)
    await kubelet.remove(container)
    await kubelet.stop(container)
    with pytest.raises(GRPCError) as caught:
        await kubelet.status(container)
    assert caught.value.status is Status.NOT_FOUND
    assert Path(kubelet.logs / "p0" / "c.log").exists()


async def test_stop_signals_and_grace(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    trap = "trap 'echo got it; exit 7' USR1; echo ready; while :; do sleep 0.05; done"
    container = await kubelet.run(pod, "sh", "-c", trap)
    await kubelet.until(lambda: "ready" in kubelet.log(container))
    assert (await kubelet.status(container)).stop_signal == pb.SIGNAL_SIGUSR1
    await kubelet.stop(container, 10)
    status = await kubelet.status(container)
    assert (status.exit_code, kubelet.log(container)) == (7, "ready\ngot it\n")
    stubborn = await kubelet.run(pod, "sh", "-c", "trap '' USR1 TERM; while :; do sleep 1; done")
    await kubelet.stop(stubborn, 1)
    assert (await kubelet.status(stubborn)).exit_code == 128 + signal.SIGKILL
    chosen = kubelet.container_config(
        "sh", "-c", "trap 'exit 9' RTMIN+3; echo on; while :; do sleep 0.05; done"
    )
    chosen.stop_signal = pb.SIGNAL_SIGRTMINPLUS3
    assert number_of("SIGRTMIN+3") == 37
    assert signal_enum(37) == pb.SIGNAL_SIGRTMINPLUS3
    created = await kubelet.create(pod, chosen)
    assert (await kubelet.status(created)).stop_signal == pb.SIGNAL_SIGRTMINPLUS3


async def test_what_an_image_and_a_request_make_together(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    config = kubelet.container_config("sh", "-c", "pwd; echo $FROM_IMAGE $MINE; cat /data/seed")
    config.envs.append(pb.KeyValue(key="MINE", value=b"\xff\xfe"))
    config.working_dir = "/made/on/the/way"
    config.linux.CopyFrom(secured(readonly_rootfs=True))
    container = await kubelet.create(pod, config)
    await kubelet.start(container)
    await kubelet.ended(container)
    raw = Path(kubelet.cri.containers[container].log_path).read_bytes()
    assert b"/made/on/the/way\n" in raw
    assert b"yes \xff\xfe\n" in raw
    assert b"from the image\n" in raw
    text = await kubelet.output(
        pod,
        "sh",
        "-c",
        "touch /x; touch /data/new && ls /data",
        linux=secured(readonly_rootfs=True),
    )
    assert "Read-only file system" in text
    assert "new\nseed\n" in text


async def test_users_and_groups(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    by_name = secured(run_as_username="alice", supplemental_groups=[7])
    assert await kubelet.output(pod, "id", linux=by_name) == (
        "uid=1000(alice) gid=1000(alice) groups=7,50(wheel),1000(alice)\n"
    ) or "groups=1000(alice),50(wheel),7" in await kubelet.output(pod, "id", linux=by_name)
    strict = secured(
        run_as_user=pb.Int64Value(value=1000),
        run_as_group=pb.Int64Value(value=3),
        supplemental_groups=[7],
        supplemental_groups_policy=pb.Strict,
    )
    container = await kubelet.run(pod, "sh", "-c", "id -G; exec sleep 100", linux=strict)
    user = (await kubelet.status(container)).user.linux
    assert (user.uid, user.gid, list(user.supplemental_groups)) == (1000, 3, [3, 7])
    with pytest.raises(GRPCError, match="run_as_user"):
        await kubelet.run(pod, linux=secured(run_as_group=pb.Int64Value(value=3)))
    with pytest.raises(GRPCError, match="no user"):
        await kubelet.run(pod, linux=secured(run_as_username="nobody-there"))


async def test_rights(kubelet: Any) -> None:
    pod = await kubelet.run_pod()

    async def effective(**security: Any) -> int:
        text = await kubelet.output(pod, "cat", "/proc/self/status", linux=secured(**security))
        return int(text.partition("CapEff:")[2].split()[0], 16)

    chown, net_admin = 1 << 0, 1 << 12
    assert await effective() & (chown | net_admin) == chown
    dropped = pb.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_ADMIN"])
    assert await effective(capabilities=dropped) == net_admin
    assert await effective(capabilities=pb.Capability(drop_capabilities=["chown"])) & chown == 0
    text = await kubelet.output(
        pod,
        "cat",
        "/proc/self/status",
        linux=secured(
            run_as_user=pb.Int64Value(value=1000),
            capabilities=pb.Capability(add_ambient_capabilities=["NET_ADMIN"]),
            no_new_privs=True,
            seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
        ),
    )
    assert int(text.partition("CapAmb:")[2].split()[0], 16) == net_admin
    assert text.partition("NoNewPrivs:")[2].split()[0] == "1"
    assert text.partition("Seccomp:")[2].split()[0] == "2"
    hidden = secured(masked_paths=["/etc/passwd"], readonly_paths=["/data"])
    said = await kubelet.output(pod, "sh", "-c", "cat /etc/passwd; touch /data/x", linux=hidden)
    assert said == "touch: /data/x: Read-only file system\n"


async def test_privileged(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    text = await kubelet.output(
        pod, "sh", "-c", "ls /dev/kmsg && mount -t tmpfs x /data", linux=secured(privileged=True)
    )
    assert text == "/dev/kmsg\n"


async def test_mounts(kubelet: Any, short_path: Path) -> None:
    (short_path / "host").mkdir()
    (short_path / "link").symlink_to(short_path / "host")
    pod = await kubelet.run_pod()
    mounts = [
        pb.Mount(container_path="/rw", host_path=str(short_path / "link")),
        pb.Mount(container_path="/ro", host_path=str(short_path / "host"), readonly=True),
        pb.Mount(container_path="/made", host_path=str(short_path / "not/there/yet")),
        pb.Mount(
            container_path="/noexec",
            host_path=str(short_path / "host"),
            mount_options=["noexec", "nosuid", "nodev"],
        ),
    ]
    script = "echo hi > /rw/file; cat /ro/file; touch /ro/x; grep ' /noexec ' /proc/mounts"
    text = await kubelet.output(pod, "sh", "-c", script, mounts=mounts)
    assert text.startswith("hi\n")
    assert "Read-only file system" in text
    assert "nosuid,nodev,noexec" in text
    assert (short_path / "not/there/yet").is_dir()
    for wrong in (
        pb.Mount(container_path="/x", host_path="/tmp", recursive_read_only=True),
        pb.Mount(container_path="/x", host_path="/tmp", mount_options=["suid"]),
        pb.Mount(container_path="", host_path="/tmp"),
        pb.Mount(container_path="/x", image_sub_path="a", host_path="/tmp"),
    ):
        with pytest.raises(GRPCError) as caught:
            await kubelet.run(pod, mounts=[wrong])
        assert caught.value.status is Status.INVALID_ARGUMENT


async def test_image_volumes(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    image = pb.ImageSpec(image="example.com/busybox:1")

    def volume(**more: Any) -> pb.Mount:
        values = {"container_path": "/vol", "image": image, "readonly": True, **more}
        return pb.Mount(**values)

    text = await kubelet.output(pod, "cat", "/vol/data/seed", mounts=[volume()])
    assert text == "from the image\n"
    sub = [volume(image_sub_path="data")]
    container = await kubelet.run(pod, "sh", "-c", "ls /vol; touch /vol/x", mounts=sub)
    await kubelet.ended(container)
    assert kubelet.log(container) == "seed\ntouch: /vol/x: Read-only file system\n"
    status = await kubelet.status(container)
    assert status.mounts[0].image.image_ref == status.image_id
    await kubelet.remove(container)
    for wrong in ("../etc", "missing", "/etc"):
        with pytest.raises(GRPCError, match="ImageVolumeMountFailed"):
            await kubelet.run(pod, mounts=[volume(image_sub_path=wrong)])
    with pytest.raises(GRPCError, match="readonly"):
        await kubelet.run(pod, mounts=[volume(readonly=False)])


async def test_exec(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    container = await kubelet.run(pod)
    answer = await kubelet.exec(container, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (answer.stdout, answer.stderr, answer.exit_code) == (b"out\n", b"err\n", 5)
    with pytest.raises(GRPCError, match="not found"):
        await kubelet.exec(container, "no-such-program")
    script = "dd if=/dev/zero bs=1M count=17 2>/dev/null"
    answer = await kubelet.exec(container, "sh", "-c", script)
    assert (len(answer.stdout), answer.exit_code) == (16 << 20, 0)
    await kubelet.stop(container)
    with pytest.raises(GRPCError) as caught:
        await kubelet.exec(container, "true")
    assert caught.value.status is Status.FAILED_PRECONDITION
    assert not (kubelet.cri.container_folder(container) / "io" / "exec").exists()


async def test_an_exec_that_takes_too_long_dies_with_all_its_children(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    container = await kubelet.run(pod)
    with pytest.raises(GRPCError) as caught:
        await kubelet.exec(
            container, "sh", "-c", "sleep 7777 & sh -c 'sleep 7778 & wait' & wait", timeout=1
        )
    assert caught.value.status is Status.DEADLINE_EXCEEDED
    listed = (await kubelet.exec(container, "ps", "-o", "args")).stdout.decode()
    assert "sleep 777" not in listed
    assert "sleep 1000" in listed


async def test_log_is_reopened_without_a_lost_line(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"
    container = await kubelet.run(pod, "sh", "-c", script)
    path = Path(kubelet.cri.containers[container].log_path)
    parts = []
    for number in range(5):
        moved = path.with_name(f"moved.{number}")
        path.rename(moved)
        parts.append(moved)
        try:
            await kubelet.runtime.ReopenContainerLog(
                pb.ReopenContainerLogRequest(container_id=container)
            )
        except GRPCError:
            break  # it had ended already
    await kubelet.ended(container)
    text = "".join(one.read_text() for one in (*parts, path) if one.exists())
    numbers = [int(line.rpartition(" ")[2]) for line in text.splitlines()]
    assert numbers == list(range(3000))
    with pytest.raises(GRPCError, match="not running"):
        await kubelet.runtime.ReopenContainerLog(
            pb.ReopenContainerLogRequest(container_id=container)
        )


async def test_limits_and_their_update(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    linux = secured()
    linux.resources.CopyFrom(
        pb.LinuxContainerResources(cpu_shares=512, memory_limit_in_bytes=64 << 20)
    )
    container = await kubelet.run(pod, linux=linux)
    folder = kubelet.cri.cgroup_folder(kubelet.cri.pods[pod], container)
    limit = Path(f"/sys/fs/cgroup/memory{folder}/memory.limit_in_bytes")
    shares = Path(f"/sys/fs/cgroup/cpu{folder}/cpu.shares")
    if not limit.exists():
        limit = Path(f"/sys/fs/cgroup{folder}/memory.max")
    assert int(limit.read_text()) == 64 << 20
    new = pb.LinuxContainerResources(memory_limit_in_bytes=96 << 20)
    request = pb.UpdateContainerResourcesRequest(container_id=container, linux=new)
    await kubelet.runtime.UpdateContainerResources(request)
    assert int(limit.read_text()) == 96 << 20
    if shares.exists():
        assert int(shares.read_text()) == 512
    told = (await kubelet.status(container)).resources.linux
    assert (told.memory_limit_in_bytes, told.cpu_shares) == (96 << 20, 512)


async def test_out_of_memory_is_told(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    linux = secured()
    linux.resources.memory_limit_in_bytes = 16 << 20
    linux.resources.memory_swap_limit_in_bytes = 16 << 20
    eat = "x=a; while :; do x=$x$x; done"
    container = await kubelet.run(pod, "sh", "-c", eat, linux=linux)
    status = await kubelet.ended(container)
    assert (status.reason, status.exit_code) == ("OOMKilled", 137)


async def test_what_cannot_start_is_told(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    container = await kubelet.create(pod, kubelet.container_config("/no/such/program"))
    with pytest.raises(GRPCError, match="/no/such/program"):
        await kubelet.start(container)
    status = await kubelet.status(container)
    assert (status.state, status.exit_code, status.reason) == (
        pb.CONTAINER_EXITED, 128, "StartError",
    )  # fmt: skip
    assert "/no/such/program" in status.message
    await kubelet.remove(container)


async def test_removal_in_every_state(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    created = await kubelet.create(pod, kubelet.container_config())
    running = await kubelet.run(pod)
    quick = await kubelet.run(pod, "true")  # just about to end
    for one in (created, running, quick):
        await kubelet.remove(one)
    assert kubelet.cri.containers == {}
    assert list((kubelet.cri.state / "containers").iterdir()) == []


async def test_lists_and_filters(kubelet: Any) -> None:
    pod, other = await kubelet.run_pod(), await kubelet.run_pod()
    one = await kubelet.run(pod, labels={"k": "v"})
    two = await kubelet.create(other, kubelet.container_config())

    async def ids(**wanted: Any) -> set[str]:
        request = pb.ListContainersRequest(filter=pb.ContainerFilter(**wanted))
        return {item.id for item in (await kubelet.runtime.ListContainers(request)).containers}

    assert await ids() == {one, two}
    assert await ids(state=pb.ContainerStateValue(state=pb.CONTAINER_RUNNING)) == {one}
    assert await ids(pod_sandbox_id=other[:10]) == {two}
    assert await ids(label_selector={"k": "v"}) == {one}
    assert await ids(id="no") == set()
    streamed = await kubelet.runtime.StreamContainers(pb.StreamContainersRequest())
    assert {item.id for answer in streamed for item in answer.containers} == {one, two}


async def test_a_pod_that_stopped_takes_no_container(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    created = await kubelet.create(pod, kubelet.container_config())
    await kubelet.stop_pod(pod)
    with pytest.raises(GRPCError, match="not running"):
        await kubelet.create(pod, kubelet.container_config())
    with pytest.raises(GRPCError, match="not running"):
        await kubelet.start(created)


async def test_events(kubelet: Any) -> None:
    seen: list[tuple[int, str]] = []

    async def listen() -> None:
        async with kubelet.runtime.GetContainerEvents.open() as stream:
            await stream.send_message(pb.GetEventsRequest(), end=True)
            async for event in stream:
                one = (event.container_event_type, event.container_id)
                seen.append(one)

    listener = asyncio.ensure_future(listen())
    await kubelet.until(lambda: kubelet.cri.events.listeners > 0)
    pod = await kubelet.run_pod()
    container = await kubelet.run(pod, "true")
    await kubelet.ended(container)
    await kubelet.remove_pod(pod)
    await kubelet.until(lambda: (pb.CONTAINER_DELETED_EVENT, pod) in seen)
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    kinds = [kind for kind, who in seen if who == container]
    assert kinds == [
        pb.CONTAINER_CREATED_EVENT,
        pb.CONTAINER_STARTED_EVENT,
        pb.CONTAINER_STOPPED_EVENT,
        pb.CONTAINER_DELETED_EVENT,
    ]


async def test_user_namespace(kubelet: Any) -> None:
    ranges = [pb.IDMapping(host_id=200000, container_id=0, length=65536)]
    userns = pb.UserNamespace(mode=pb.POD, uids=ranges, gids=ranges)
    pod = await kubelet.run_pod(kubelet.pod_config(namespaces={"userns_options": userns}))
    (kubelet.folder / "shared").mkdir()
    (kubelet.folder / "shared").chmod(0o755)
    mount = pb.Mount(
        container_path="/shared",
        host_path=str(kubelet.folder / "shared"),
        uidMappings=ranges,
        gidMappings=ranges,
    )
    script = "cat /proc/self/uid_map; stat -c %u /data; touch /shared/file; exec sleep 100"
    container = await kubelet.run(pod, "sh", "-c", script, mounts=[mount])
    await kubelet.until((kubelet.folder / "shared/file").exists)
    assert kubelet.log(container).split() == ["0", "200000", "65536", "0"]
    assert (kubelet.folder / "shared/file").stat().st_uid == 0
    pid = kubelet.cri.containers[container].pid
    assert os.stat(f"/proc/{pid}").st_uid == 200000
