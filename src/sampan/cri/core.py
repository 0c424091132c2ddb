"""The CRI as a whole: what its rpcs share."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sampan import context
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri import NAMESPACE
from sampan.cri.events import Events
from sampan.cri.figures import Figures
from sampan.cri.images.store import Images
from sampan.cri.plugged import Plugged
from sampan.cri.store.names import Flights, Names
from sampan.cri.store.records import Container, Pod
from sampan.engine.cri import CriSettings, cri_settings
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.network import (
    CniConfig,
    CniNetworks,
    NetworkNamespaces,
    Networks,
    PinnedNamespaces,
)
from sampan.runtime.sandbox import PodShims

if TYPE_CHECKING:
    from sampan.cri.streaming import StreamingServer
    from sampan.engine import Engine

__all__ = ["Cri", "open_cri"]

log = logging.getLogger(__name__)

T = TypeVar("T")

URI: Final = "io.containerd.grpc.v1.cri"
_CNI_FOLDERS: Final = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
"""Where plugins are besides the configured folders: of distributions' packages."""


class Cri:
    """State of all pods and containers, and the rooms that work on them; one a daemon."""

    def __init__(self, engine: Engine, settings: CriSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.root: Path = engine.settings.root / URI
        self.state: Path = engine.settings.state / URI
        cni = settings.runtime.cni
        self.networks: Networks = CniNetworks(
            CniConfig(
                root=engine.settings.root / "network",
                conf_dir=Path(cni.conf_dir),
                bin_dirs=tuple(dict.fromkeys((*cni.folders, *_CNI_FOLDERS))),
                max_conf_num=cni.max_conf_num,
            )
        )
        self.netns: NetworkNamespaces = PinnedNamespaces(
            engine.settings.state / "netns", zygote=engine.shims.zygote
        )
        self.pod_shims = PodShims(engine.settings.state, engine.shims)
        self.pods: dict[str, Pod] = {}
        self.containers: dict[str, Container] = {}
        self.pod_names = Names("pod sandbox")
        self.container_names = Names("container")
        self.flights = Flights()
        self.events = Events(self)
        self.images = Images(self)
        self.figures = Figures(self)
        self.plugged = Plugged(self)
        self.streaming: StreamingServer | None = None
        self._watchers: dict[str, asyncio.Task[None]] = {}

    # --- finding ------------------------------------------------------------------------

    def find_pod(self, id: str) -> Pod | None:
        """Return the pod of an id, or of the beginning of one.

        Raises:
          InvalidArgument: several begin so.
        """
        return _find(self.pods, id, "sandbox")

    def find_container(self, id: str) -> Container | None:
        """Return the container of an id, or of the beginning of one."""
        return _find(self.containers, id, "container")

    def container(self, id: str) -> Container:
        """Return the container of an id.

        Raises:
          NotFound: there is none.
        """
        found = self.find_container(id)
        if found is None:
            raise NotFound(f"container {id}: not found")
        return found

    def pod(self, id: str) -> Pod:
        """Return the pod of an id.

        Raises:
          NotFound: there is none.
        """
        found = self.find_pod(id)
        if found is None:
            raise NotFound(f"sandbox {id}: not found")
        return found

    def containers_of(self, pod_id: str) -> list[Container]:
        """Return a pod's containers, the oldest first."""
        found = [one for one in self.containers.values() if one.pod_id == pod_id]
        return sorted(found, key=lambda one: one.created_ns)

    # --- places --------------------------------------------------------------------------

    def pod_folder(self, id: str) -> Path:
        """Return the pod's folder below the state folder."""
        return self.state / "sandboxes" / id

    def container_folder(self, id: str) -> Path:
        """Return the container's folder below the state folder."""
        return self.state / "containers" / id

    def container_root(self, id: str) -> Path:
        """Return the container's folder that outlives a reboot."""
        return self.root / "containers" / id

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of ours; what is mounted below it is left, and is an error."""
        if folder.exists():
            shutil.rmtree(folder)

    def cgroup_of(self, pod: Pod, id: str) -> str:
        """Return cgroupsPath of a container of the pod, or with id "" of the pod itself."""
        parent = pod.config.linux.cgroup_parent
        if parent.endswith(".slice"):
            name = os.path.basename(parent)
            return f"{name}:cri-containerd:{id}" if id else parent
        if not parent:
            parent = f"/{NAMESPACE}/pod-{pod.id}"
        return f"{parent}/{id}" if id else parent

    def cgroup_folder(self, pod: Pod, id: str) -> str:
        """Return the cgroup's path below each hierarchy's root, whatever the driver's notation."""
        path = self.cgroup_of(pod, id)
        if path.endswith(".slice"):
            return _slice_path(path)
        if ":" not in path:
            return path
        parent, prefix, name = path.split(":")
        return f"{_slice_path(parent)}/{prefix}-{name}.scope"

    def snapshot_folder(self, snapshotter: str) -> str:
        """Return where a snapshotter keeps its folders, as ImageFsInfo names it."""
        return str(self.engine.settings.root / f"io.containerd.snapshotter.v1.{snapshotter}")

    def remove_pod_cgroup(self, pod: Pod) -> None:
        """Remove the cgroup that holds the containers of a pod, when it is we who made it."""
        if not pod.config.linux.cgroup_parent:
            from sampan.cgroups import Manager

            Manager(self.cgroup_of(pod, "")).delete()

    def limit_pod(self, pod: Pod) -> None:
        """Set a pod's resources and overhead on its cgroup, when it is we who made it.

        Kubelet makes the cgroup that it names, and sets its limits itself.
        """
        linux = pod.config.linux
        if linux.cgroup_parent:
            return
        from sampan.cgroups import Manager
        from sampan.cri.spec.resources import resources_of

        manager = Manager(self.cgroup_of(pod, ""))
        with suppress(FailedPrecondition):  # the pod's containers are in it already
            manager.create()
        manager.apply(resources_of(_sum(linux.resources, linux.overhead), hugepages=False))

    # --- watching ------------------------------------------------------------------------

    def watch_pod(self, pod: Pod) -> None:
        """Notice when the pod's shim or its holder ends by itself: it is not ready then."""
        self.spawn(f"pod-{pod.id}", self._pod_gone(pod))

    async def _pod_gone(self, pod: Pod) -> None:
        await self.pod_shims.gone(pod.id)
        if pod.ready:
            log.warning("the shim of a pod is gone: sandbox=%s", pod.id)
            pod.ready = False

    def unwatch_pod(self, pod: Pod) -> None:
        """Stop noticing."""
        task = self._watchers.pop(f"pod-{pod.id}", None)
        if task is not None:
            task.cancel()

    def spawn(self, key: str, work: Any) -> None:
        """Run `work` beside everything else, in our namespace, until `close`."""
        with context.scope(NAMESPACE):
            task = asyncio.get_running_loop().create_task(_logged(work), name=key)
        self._watchers[key] = task
        task.add_done_callback(partial(self._watched, key))

    def _watched(self, key: str, task: asyncio.Task[None]) -> None:
        if self._watchers.get(key) is task:
            del self._watchers[key]

    # --- beginning and end ---------------------------------------------------------------

    def services(self) -> Sequence[Any]:
        """Return the gRPC services."""
        from sampan.cri.services import ImageService, RuntimeService

        return (RuntimeService(self), ImageService(self))

    async def close(self) -> None:
        """Stop watching; pods and containers live on."""
        await self.flights.close()
        await self.plugged.close()
        if self.streaming is not None:
            await self.streaming.close()
        tasks = list(self._watchers.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.figures.close()
        await self.images.close()
        await self.networks.close()
        await self.netns.close()


async def open_cri(engine: Engine) -> Cri:
    """Read what there is, and begin to watch it.

    Raises:
      InvalidArgument: the configuration is wrong.
    """
    from sampan.cri.store.recovery import recover

    cri = Cri(engine, cri_settings(engine.settings))
    with context.scope(NAMESPACE):
        await to_thread(cri.state.mkdir, 0o711, True, True)
        await recover(cri)
        await _start_streaming(cri)
        await cri.plugged.start()
    return cri


async def _start_streaming(cri: Cri) -> None:
    from sampan.cri.backend import CriBackend
    from sampan.cri.streaming import StreamingConfig, StreamingServer

    wanted = cri.settings.streaming
    server = StreamingServer(
        CriBackend(cri),
        StreamingConfig(
            address=wanted.stream_server_address,
            port=int(wanted.stream_server_port),
            idle_timeout_s=float(wanted.stream_idle_timeout),
            tls=wanted.enable_tls_streaming,
            cert_file=wanted.x509_key_pair_streaming.tls_cert_file,
            key_file=wanted.x509_key_pair_streaming.tls_key_file,
        ),
    )
    await server.start()
    cri.streaming = server


def _slice_path(name: str) -> str:
    """Return where systemd puts a slice: `a-b.slice` is `/a.slice/a-b.slice`.

    Source: systemd.slice(5).
    """
    parts = os.path.basename(name).removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[: end + 1])}.slice" for end in range(len(parts)))


def _sum(
    resources: pb.LinuxContainerResources, overhead: pb.LinuxContainerResources
) -> pb.LinuxContainerResources:
    """Return what a pod may use, with what its sandbox takes itself."""
    total = pb.LinuxContainerResources()
    total.CopyFrom(resources)
    for name in ("cpu_quota", "cpu_shares", "memory_limit_in_bytes"):
        one, other = getattr(resources, name), getattr(overhead, name)
        if one > 0 and other > 0:
            setattr(total, name, one + other)
    return total


async def _logged(work: Any) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("a watcher of the CRI failed")


def _find(table: dict[str, T], id: str, kind: str) -> T | None:
    if not id:
        return None
    found = table.get(id)
    if found is None and len(id) < 64:
        several = [one for key, one in table.items() if key.startswith(id)]
        if len(several) > 1:
            raise InvalidArgument(f"{kind} id {id!r} is the beginning of {len(several)} ids")
        found = several[0] if several else None
    return found
