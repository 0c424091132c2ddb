"""Images: pulled from Debian's registry, shown by id, tag and digest, removed by any of them."""

# ruff: noqa: ASYNC240, S105, S106  small files of the test's own; passwords of nothing

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan import context
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri import NAMESPACE
from sampan.cri.images.pull import credentials_of
from sampan.distribution.registry.client import RegistryClient, RegistryOptions
from sampan.distribution.transfer import Stores, Transfer
from sampan.errors import InvalidArgument
from sampan.model.reference import parse
from sampan.testing import requires
from sampan.testing.registry import DockerRegistry

pytestmark = requires("root", "busybox", "docker-registry")

IMAGE = "example.com/busybox:1"


@pytest.fixture
def registry(short_path: Path) -> Iterator[DockerRegistry]:
    with DockerRegistry(short_path / "registry") as one:
        yield one


@pytest.fixture
async def pushed(kubelet: Any, registry: DockerRegistry) -> str:
    """`host/box`, with the tags 1 and 2; the image itself is gone from here."""
    name = f"{registry.host}/box"
    metadata = kubelet.cri.engine.metadata
    stores = Stores(metadata.content, metadata.images, metadata.leases)
    with context.scope(NAMESPACE):
        async with RegistryClient(RegistryOptions(environ=os.environ)) as client:
            for tag in "12":
                await Transfer(stores, client).push(IMAGE, parse(f"{name}:{tag}"))
    await remove(kubelet, IMAGE)
    assert await images(kubelet) == []
    return name


async def pull(kubelet: Any, name: str, **more: Any) -> str:
    request = pb.PullImageRequest(image=pb.ImageSpec(image=name), **more)
    return str((await kubelet.images.PullImage(request)).image_ref)


async def images(kubelet: Any, name: str = "") -> list[Any]:
    wanted = pb.ImageFilter(image=pb.ImageSpec(image=name)) if name else None
    answer = await kubelet.images.ListImages(pb.ListImagesRequest(filter=wanted))
    return list(answer.images)


async def status(kubelet: Any, name: str, *, verbose: bool = False) -> Any:
    request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name), verbose=verbose)
    return await kubelet.images.ImageStatus(request)


async def remove(kubelet: Any, name: str) -> None:
    request = pb.RemoveImageRequest(image=pb.ImageSpec(image=name))
    await kubelet.images.RemoveImage(request)


async def test_pull_by_tag(kubelet: Any, pushed: str) -> None:
    key = await pull(kubelet, f"{pushed}:1")
    (image,) = await images(kubelet)
    assert image.id == key
    assert list(image.repo_tags) == [f"{pushed}:1"]
    (digest,) = image.repo_digests
    assert digest.startswith(f"{pushed}@sha256:")
    assert image.uid.value == 0
    assert image.size > 0
    for name in (key, key.removeprefix("sha256:")[:12], f"{pushed}:1", digest):
        assert (await status(kubelet, name)).image.id == key
        assert [one.id for one in await images(kubelet, name)] == [key]
    told = await status(kubelet, key, verbose=True)
    assert "chainID" in told.info["info"]
    assert not (await status(kubelet, "example.com/none:1")).HasField("image")
    streamed = await kubelet.images.StreamImages(pb.StreamImagesRequest())
    assert [one.id for answer in streamed for one in answer.images] == [key]


async def test_pull_by_digest_has_no_tag(kubelet: Any, pushed: str) -> None:
    await pull(kubelet, f"{pushed}:1")
    (digest,) = (await images(kubelet))[0].repo_digests
    await remove(kubelet, digest)
    assert await images(kubelet) == []
    await pull(kubelet, digest)
    (image,) = await images(kubelet)
    assert (list(image.repo_tags), list(image.repo_digests)) == ([], [digest])


async def test_removal_by_any_name_removes_all(kubelet: Any, pushed: str) -> None:
    key = await pull(kubelet, f"{pushed}:1")
    assert await pull(kubelet, f"{pushed}:2") == key
    (image,) = await images(kubelet)
    assert list(image.repo_tags) == [f"{pushed}:1", f"{pushed}:2"]
    await asyncio.gather(remove(kubelet, key), remove(kubelet, f"{pushed}:2"))
    await remove(kubelet, key)
    assert await images(kubelet) == []
    with context.scope(NAMESPACE):
        left = [info async for info in kubelet.cri.engine.metadata.content.walk()]
    assert left == []


async def test_a_container_from_the_image_id(kubelet: Any, pushed: str) -> None:
    key = await pull(kubelet, f"{pushed}:1")
    pod = await kubelet.run_pod()
    config = kubelet.container_config("true")
    config.image.image = key
    container = await kubelet.create(pod, config)
    status = await kubelet.status(container)
    assert (status.image_id, status.image_ref) == (key, key)
    listed = await kubelet.runtime.ListContainers(pb.ListContainersRequest())
    assert listed.containers[0].image_id == key


async def test_what_is_not_there(kubelet: Any, pushed: str) -> None:
    with pytest.raises(GRPCError) as caught:
        await pull(kubelet, f"{pushed}:none")
    assert caught.value.status is Status.NOT_FOUND
    with pytest.raises(GRPCError) as caught:
        await pull(kubelet, "not a name")
    assert caught.value.status is Status.INVALID_ARGUMENT
    with pytest.raises(GRPCError, match="RegistryUnavailable") as caught:
        await pull(kubelet, "127.0.0.1:1/nobody/listens:1")
    assert caught.value.status is Status.UNAVAILABLE
    pod = await kubelet.run_pod()
    with pytest.raises(GRPCError, match="pull it first"):
        await kubelet.run(pod)


async def test_file_system(kubelet: Any, pushed: str) -> None:
    await pull(kubelet, f"{pushed}:1")
    answer = await kubelet.images.ImageFsInfo(pb.ImageFsInfoRequest())
    (usage,) = answer.image_filesystems
    assert usage.used_bytes.value > 500_000
    assert usage.inodes_used.value > 10
    assert Path(usage.fs_id.mountpoint).is_dir()
    assert len(answer.container_filesystems) == 1


async def test_credentials(kubelet: Any) -> None:
    cri = kubelet.cri
    assert not credentials_of(cri, "a.example", None)
    plain = credentials_of(cri, "a.example", pb.AuthConfig(username="u", password="p"))
    assert (plain.username, plain.password) == ("u", "p")
    packed = credentials_of(cri, "a.example", pb.AuthConfig(auth="dTpwOnE="))
    assert (packed.username, packed.password) == ("u", "p:q")
    with pytest.raises(InvalidArgument):
        credentials_of(cri, "a.example", pb.AuthConfig(auth="%"))
    elsewhere = pb.AuthConfig(username="u", password="p", server_address="https://b.example/v1/")
    assert not credentials_of(cri, "a.example", elsewhere)
    assert credentials_of(cri, "b.example", elsewhere)
    hub = pb.AuthConfig(username="u", server_address="https://index.docker.io/v1/")
    assert credentials_of(cri, "docker.io", hub)
    assert credentials_of(cri, "x", pb.AuthConfig(identity_token="t")).identity_token == "t"
    assert credentials_of(cri, "x", pb.AuthConfig(registry_token="t")).registry_token == "t"


async def test_pinned_images_are_told(open_kubelet: Any, registry: DockerRegistry) -> None:
    name = f"{registry.host}/pause:1"
    images_table = {"pinned_images": {"sandbox": name}}
    async with open_kubelet(images=images_table) as kubelet:
        metadata = kubelet.cri.engine.metadata
        stores = Stores(metadata.content, metadata.images, metadata.leases)
        with context.scope(NAMESPACE):
            async with RegistryClient(RegistryOptions(environ=os.environ)) as client:
                await Transfer(stores, client).push(IMAGE, parse(name))
        await pull(kubelet, name)
        assert [one.pinned for one in await images(kubelet)] == [True]
