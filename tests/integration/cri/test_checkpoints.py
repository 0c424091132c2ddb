"""Checkpoints: a container and a pod go on from files, and rubbish in files is refused."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.checkpoints import archive
from sampan.errors import InvalidArgument, NotFound
from sampan.testing import requires

pytestmark = requires("root", "busybox")

COUNT = "i=0; while :; do i=$((i+1)); echo $i > /count; echo $i; sleep 0.05; done"


def criu_works() -> bool:
    """Whether the installed CRIU can do anything on this kernel; Debian 12's cannot on new ones."""
    return subprocess.run(["criu", "check"], capture_output=True, check=False).returncode == 0


async def refused_by_criu(call: Any) -> bool:
    """Make the call; where CRIU cannot work it says so, and nothing has changed."""
    if criu_works():
        await call
        return False
    with pytest.raises(GRPCError, match="criu") as caught:
        await call
    assert caught.value.status is Status.FAILED_PRECONDITION
    return True


def number(text: str) -> int:
    return int(text.split()[-1]) if text.split() else 0


@requires("criu")
async def test_a_container_goes_on(kubelet: Any, short_path: Path) -> None:
    pod = await kubelet.run_pod()
    container = await kubelet.run(pod, "sh", "-c", COUNT, name="counter")
    await kubelet.until(lambda: number(kubelet.log(container)) > 3)
    location = short_path / "dumps/c.tar"
    request = pb.CheckpointContainerRequest(
        container_id=container, location=str(location), timeout=60
    )
    if await refused_by_criu(kubelet.runtime.CheckpointContainer(request)):
        assert not location.exists()
        seen = number(kubelet.log(container))
        await kubelet.until(lambda: number(kubelet.log(container)) > seen)
        return
    assert location.stat().st_mode & 0o777 == 0o600
    assert (await kubelet.status(container)).state == pb.CONTAINER_RUNNING
    with tarfile.open(location) as tar:
        names = tar.getnames()
        diff = tar.extractfile("rootfs-diff.tar")
        assert diff is not None
        with tarfile.open(fileobj=diff) as changes:
            assert "count" in changes.getnames()
    assert {"config.dump", "spec.dump", "status.dump", "container.log"} <= set(names)
    assert "checkpoint/inventory.img" in names
    await kubelet.remove(container)
    assert list(kubelet.cri.container_root(container).parent.glob("*")) == []
    config = kubelet.container_config("ignored", name="again")
    config.image.image = str(location)
    again = await kubelet.create(pod, config)
    assert (await kubelet.status(again)).state == pb.CONTAINER_CREATED
    await kubelet.start(again)
    await kubelet.until(lambda: number(kubelet.log(again)) > 5)
    assert number(kubelet.log(again).split("\n", 1)[0]) > 3
    count = (await kubelet.exec(again, "cat", "/count")).stdout
    assert int(count) > 5
    await kubelet.stop(again)
    assert (await kubelet.status(again)).exit_code == 137


@requires("criu")
async def test_a_pod_goes_on(kubelet: Any, short_path: Path) -> None:
    config = kubelet.pod_config("whole")
    pod = await kubelet.run_pod(config)
    for name in ("one", "two"):
        container = await kubelet.run(pod, "sh", "-c", COUNT, name=name)
        await kubelet.until(lambda c=container: number(kubelet.log(c)) > 2)
    folder = short_path / "pod"
    request = pb.CheckpointPodRequest(pod_sandbox_id=pod, output_path=str(folder))
    request.options["nonsense"] = "x"
    with pytest.raises(GRPCError, match="unknown option"):
        await kubelet.runtime.CheckpointPod(request)
    request.options.clear()
    refused = await refused_by_criu(kubelet.runtime.CheckpointPod(request))
    for one in kubelet.cri.containers_of(pod):
        before = number(kubelet.log(one.id))
        await kubelet.until(lambda c=one, b=before: number(kubelet.log(c.id)) > b)
    if refused:
        return
    await kubelet.remove_pod(pod)
    answer = await kubelet.runtime.RestorePod(pb.RestorePodRequest(checkpoint_path=str(folder)))
    assert [one.name for one in answer.restored_containers] == ["one", "two"]
    for one in answer.restored_containers:
        assert (await kubelet.status(one.container_id)).state == pb.CONTAINER_CREATED
        await kubelet.start(one.container_id)
        await kubelet.until(lambda c=one: number(kubelet.log(c.container_id)) > 2)
    await kubelet.remove_pod(answer.pod_sandbox_id)
    wrong = pb.RestorePodRequest(checkpoint_path=str(folder))
    wrong.container_configs.append(kubelet.container_config(name="three"))
    with pytest.raises(GRPCError, match="not in the checkpoint"):
        await kubelet.runtime.RestorePod(wrong)
    (folder / "two.tar").unlink()
    with pytest.raises(GRPCError) as caught:
        await kubelet.runtime.RestorePod(pb.RestorePodRequest(checkpoint_path=str(folder)))
    assert caught.value.status is Status.NOT_FOUND
    assert (kubelet.cri.pods, kubelet.cri.containers) == ({}, {})


async def test_what_was_written_comes_back(kubelet: Any, short_path: Path) -> None:
    pod = await kubelet.run_pod()
    first = await kubelet.run(pod, "true")
    image = (await kubelet.ended(first)).image_id
    work = short_path / "work"
    (work / "checkpoint").mkdir(parents=True)
    with tarfile.open(work / archive.DIFF, "w") as diff:
        member = tarfile.TarInfo("written")
        member.size = 3
        diff.addfile(member, io.BytesIO(b"old"))
    location = short_path / "c.tar"
    documents = {"config.dump": {"rootfsImageRef": image}, "spec.dump": {}}
    archive.write(location, documents, work, "")
    config = kubelet.container_config()
    config.image.image = str(location)
    container = await kubelet.create(pod, config)
    folder = kubelet.cri.engine.settings.root / "io.containerd.snapshotter.v1.overlayfs"
    assert [one.read_text() for one in folder.glob("snapshots/*/fs/written")] == ["old"]
    assert (await kubelet.status(container)).image_id == image
    # Without images of its processes there is nothing to go on from.
    with pytest.raises(GRPCError):
        await kubelet.start(container)
    assert (await kubelet.status(container)).reason == "StartError"
    await kubelet.remove(container)


async def test_refusals(kubelet: Any, short_path: Path) -> None:
    pod = await kubelet.run_pod()
    created = await kubelet.create(pod, kubelet.container_config())

    async def refused(location: str) -> str:
        request = pb.CheckpointContainerRequest(container_id=created, location=location)
        with pytest.raises(GRPCError) as caught:
            await kubelet.runtime.CheckpointContainer(request)
        return str(caught.value.message)

    assert "absolute" in await refused("relative")
    assert "does not run" in await refused(str(short_path / "c.tar"))
    with pytest.raises(GRPCError) as caught:
        await kubelet.runtime.RestorePod(pb.RestorePodRequest(checkpoint_path="/none"))
    assert caught.value.status is Status.NOT_FOUND
    rubbish = short_path / "rubbish.tar"
    rubbish.write_bytes(b"rubbish")
    config = kubelet.container_config()
    config.image.image = str(rubbish)
    with pytest.raises(GRPCError, match="cannot be read"):
        await kubelet.create(pod, config)


def test_archives(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "checkpoint").mkdir(parents=True)
    (work / "checkpoint/pages-1.img").write_bytes(b"p")
    (work / archive.DIFF).write_bytes(b"d")
    documents = {"config.dump": {"rootfsImageRef": "sha256:0"}, "spec.dump": {"a": 1}}
    path = tmp_path / "c.tar"
    archive.write(path, documents, work, "")
    found = archive.read(str(path))
    assert (found.image, found.spec, found.status) == ("sha256:0", {"a": 1}, {})
    assert archive.unpack(str(path), tmp_path / "out")
    assert (tmp_path / "out/checkpoint/pages-1.img").read_bytes() == b"p"
    assert archive.is_archive(str(path))
    assert not archive.is_archive("name:1")
    with pytest.raises(NotFound):
        archive.read(str(tmp_path / "none"))
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as tar:
        for name in ("checkpoint/../../evil", "checkpoint/a/b", "../evil", "/evil"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("checkpoint/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InvalidArgument, match="missing"):
        archive.read(str(hostile))
    assert not archive.unpack(str(hostile), tmp_path / "hostile")
    assert list((tmp_path / "hostile/checkpoint").iterdir()) == []
    assert not (tmp_path / "evil").exists()
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        member = tarfile.TarInfo("config.dump")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"{"))
    with pytest.raises(InvalidArgument, match="no JSON"):
        archive.read(str(tmp_path / "bad.tar"))
    json.dumps(documents)
