"""A CRI of the test's own, and a small kubelet that speaks to it over gRPC in memory."""

# ruff: noqa: ASYNC109, ASYNC110  kubelet's own words; conditions of the kernel's, which no event tells

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from grpclib.testing import ChannelFor

from sampan import context
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.api.cri.v1.api_grpc import ImageServiceStub, RuntimeServiceStub
from sampan.cgroups import Manager
from sampan.cri import NAMESPACE, Cri, open_cri
from sampan.distribution.transfer import Stores, Transfer
from sampan.engine import Engine, Settings
from sampan.model.platform import default
from sampan.testing import require, unique_name
from sampan.testing.rootfs import copy_rootfs

IMAGE = "example.com/busybox:1"


class NoRegistry:
    """For images that are here."""

    async def resolve(self, reference: Any) -> Any:
        raise NotImplementedError

    fetcher = pusher = resolve


class Kubelet:
    """What kubelet does, in few words; `cri` is the other side."""

    def __init__(self, cri: Cri, channel: Any, folder: Path, cgroup: str) -> None:
        self.cri = cri
        self.runtime = RuntimeServiceStub(channel)
        self.images = ImageServiceStub(channel)
        self.folder = folder
        self.logs = folder / "logs"
        self.cgroup = cgroup
        self._numbers = itertools.count()

    def pod_config(self, name: str = "", **security: Any) -> pb.PodSandboxConfig:
        """A pod on the host's network, with pid namespaces a container each, unless told."""
        options = {"network": pb.NODE, "pid": pb.CONTAINER, **security.pop("namespaces", {})}
        name = name or f"p{next(self._numbers)}"
        return pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, namespace="ns", uid=f"uid-{name}"),
            log_directory=str(self.logs / name),
            labels={"pod": name},
            linux=pb.LinuxPodSandboxConfig(
                cgroup_parent=self.cgroup,
                security_context=pb.LinuxSandboxSecurityContext(
                    namespace_options=pb.NamespaceOption(**options), **security
                ),
            ),
        )

    def container_config(self, *command: str, name: str = "", **more: Any) -> pb.ContainerConfig:
        name = name or f"c{next(self._numbers)}"
        return pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=name),
            image=pb.ImageSpec(image=IMAGE),
            command=command or ("sleep", "1000"),
            log_path=f"{name}.log",
            **more,
        )

    async def run_pod(self, config: pb.PodSandboxConfig | None = None) -> str:
        config = config or self.pod_config()
        answer = await self.runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=config))
        return str(answer.pod_sandbox_id)

    async def create(self, pod: str, config: pb.ContainerConfig) -> str:
        request = pb.CreateContainerRequest(pod_sandbox_id=pod, config=config)
        return str((await self.runtime.CreateContainer(request)).container_id)

    async def start(self, container: str) -> None:
        await self.runtime.StartContainer(pb.StartContainerRequest(container_id=container))

    async def run(self, pod: str, *command: str, **more: Any) -> str:
        container = await self.create(pod, self.container_config(*command, **more))
        await self.start(container)
        return container

    async def status(self, container: str) -> pb.ContainerStatus:
        request = pb.ContainerStatusRequest(container_id=container)
        return (await self.runtime.ContainerStatus(request)).status

    async def pod_status(self, pod: str) -> pb.PodSandboxStatus:
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=pod)
        return (await self.runtime.PodSandboxStatus(request)).status

    async def ended(self, container: str) -> pb.ContainerStatus:
        """Wait for the end, and return the status then."""
        async with asyncio.timeout(20):
            await self.cri.containers[container].ended.wait()
        return await self.status(container)

    async def output(self, pod: str, *command: str, **more: Any) -> str:
        """Run a container to its end, and return what it logged."""
        container = await self.run(pod, *command, **more)
        await self.ended(container)
        return self.log(container)

    def log(self, container: str) -> str:
        """The text of a log, without times and tags."""
        path = self.cri.containers[container].log_path
        lines = Path(path).read_text().splitlines()
        return "".join(
            line.split(" ", 3)[3] + ("\n" if line.split(" ", 3)[2] == "F" else "") for line in lines
        )

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for something that nobody tells us of."""
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.01)

    async def exec(self, container: str, *command: str, timeout: int = 0) -> pb.ExecSyncResponse:
        request = pb.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout)
        return await self.runtime.ExecSync(request)

    async def stop(self, container: str, timeout: int = 0) -> None:
        request = pb.StopContainerRequest(container_id=container, timeout=timeout)
        await self.runtime.StopContainer(request)

    async def remove(self, container: str) -> None:
        await self.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=container))

    async def stop_pod(self, pod: str) -> None:
        await self.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=pod))

    async def remove_pod(self, pod: str) -> None:
        await self.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=pod))


USERS = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nalice:x:1000:\nwheel:x:50:alice\n"


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Path:
    """An image of a busybox rootfs with users and groups, and with a volume."""
    rootfs = copy_rootfs(busybox, tmp_path_factory.mktemp("rootfs") / "rootfs")
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/passwd").write_text(USERS)
    (rootfs / "etc/group").write_text(GROUP)
    (rootfs / "data").mkdir()
    (rootfs / "data/seed").write_text("from the image\n")
    folder = tmp_path_factory.mktemp("image")
    write_layout(folder, rootfs)
    return folder


def write_layout(folder: Path, rootfs: Path) -> None:
    """Write an OCI layout of one image of one layer."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        kind = f"application/vnd.oci.image.{media_type}"
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(rootfs, arcname=".")
    layer = blob(buffer.getvalue(), "layer.v1.tar")
    config = {
        "architecture": default().architecture,
        "os": "linux",
        "config": {
            "Cmd": ["sleep", "1000"],
            "Env": ["PATH=/bin:/sbin:/usr/bin", "FROM_IMAGE=yes"],
            "Volumes": {"/data": {}},
            "StopSignal": "SIGUSR1",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    described = blob(json.dumps(config).encode(), "config.v1+json")
    manifest = {"schemaVersion": 2, "config": described, "layers": [layer]}
    target = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    target["annotations"] = {"io.containerd.image.name": IMAGE}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [target]}))


@pytest.fixture
def cgroup_parent() -> Iterator[str]:
    """A cgroup as kubelet makes one for a pod."""
    name = f"/{unique_name('cri')}"
    yield name
    Manager(name).delete()


@pytest.fixture
def bridge(short_path: Path) -> Iterator[str]:
    """The folder of a CNI configuration: a bridge of the test's own."""
    require("root")
    name = unique_name("b")[-14:]
    folder = short_path / "net.d"
    folder.mkdir()
    plugin = {
        "type": "bridge",
        "bridge": name,
        "isGateway": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": str(short_path / "ipam"),
            "ranges": [[{"subnet": "10.88.231.0/24"}]],
        },
    }
    text = json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]})
    (folder / "10-test.conflist").write_text(text)
    yield str(folder)
    subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)


OpenCri = Callable[..., AbstractAsyncContextManager[Kubelet]]


@pytest.fixture
def open_kubelet(
    short_path: Path, root: Path, state: Path, layout: Path, cgroup_parent: str
) -> OpenCri:
    """A function that opens an engine and its CRI; again on the same folders, as after a crash."""

    @asynccontextmanager
    async def open_one(
        *,
        cni: str = "",
        runtime: dict[str, Any] | None = None,
        images: dict[str, Any] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Kubelet]:
        tables = {
            "io.containerd.cri.v1.runtime": {
                "cni": {"conf_dir": cni or str(short_path / "none")},
                **(runtime or {}),
            },
            "io.containerd.cri.v1.images": images or {},
        }
        chosen = Settings(
            root=root,
            state=state,
            address=short_path / "d.sock",
            hosts_dir=short_path / "certs.d",
            plugins=tables,
            **settings,
        )
        async with Engine.open(chosen) as engine:
            with context.scope(NAMESPACE):
                metadata = engine.metadata
                stores = Stores(metadata.content, metadata.images, metadata.leases)
                await Transfer(stores, NoRegistry()).load(layout)
            cri = await open_cri(engine)
            try:
                async with ChannelFor(list(cri.services())) as channel:
                    yield Kubelet(cri, channel, short_path, cgroup_parent)
            finally:
                await cri.close()

    return open_one


@pytest.fixture
async def kubelet(open_kubelet: OpenCri) -> AsyncIterator[Kubelet]:
    """A kubelet with a CRI; its pods are removed at the end."""
    async with open_kubelet() as one:
        try:
            yield one
        finally:
            for pod in list(one.cri.pods):
                with suppress(KeyError):
                    await one.remove_pod(pod)
