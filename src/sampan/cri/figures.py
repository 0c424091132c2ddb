"""Stats and metrics of pods and containers: which ones, and where `stats` is to look.

Only running containers are listed, as kubelet expects; one that has ended can still be asked for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.sandboxes.status import matches
from sampan.cri.stats import ContainerTarget, Layer, Layers, PodTarget, Stats
from sampan.cri.store.records import Container, Pod

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["Figures"]


class Figures:
    """The stats rpcs."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri
        self.stats = Stats()
        self._layers: dict[str, Layers] = {}

    async def close(self) -> None:
        """Wait for what is being measured."""
        for layers in self._layers.values():
            await layers.close()

    def forget(self, id: str, snapshotter: str = "") -> None:
        """Drop what is remembered of something that was removed."""
        self.stats.forget(id)
        if snapshotter in self._layers:
            self._layers[snapshotter].forget(id)

    async def container(self, id: str) -> pb.ContainerStats:
        """Return the stats of one container.

        Raises:
          NotFound: there is none.
        """
        return await self.stats.container(await self._target(self._cri.container(id)))

    async def containers(self, wanted: pb.ContainerStatsFilter) -> list[pb.ContainerStats]:
        """Return the stats of those that a filter lets through."""
        targets = await self._targets(self._chosen(wanted))
        return await self.stats.containers(targets)

    async def pod(self, id: str) -> pb.PodSandboxStats:
        """Return the stats of one pod.

        Raises:
          NotFound: there is none.
        """
        return await self.stats.pod(await self._pod_target(self._cri.pod(id)))

    async def pods(self, wanted: pb.PodSandboxStatsFilter) -> list[pb.PodSandboxStats]:
        """Return the stats of those that a filter lets through."""
        chosen = self._chosen_pods(wanted)
        return [await self.stats.pod(await self._pod_target(pod)) for pod in chosen]

    async def metrics(self) -> list[pb.PodSandboxMetrics]:
        """Return the metrics of every pod that is ready."""
        ready = [pod for pod in self._cri.pods.values() if pod.ready]
        return [await self.stats.metrics(await self._pod_target(pod)) for pod in ready]

    # --- choosing ------------------------------------------------------------------------

    def _chosen(self, wanted: pb.ContainerStatsFilter) -> list[Container]:
        cri = self._cri
        only = cri.find_container(wanted.id) if wanted.id else None
        pod = cri.find_pod(wanted.pod_sandbox_id) if wanted.pod_sandbox_id else None
        if (wanted.id and only is None) or (wanted.pod_sandbox_id and pod is None):
            return []
        return [
            one
            for one in ([only] if only is not None else list(cri.containers.values()))
            if one.state != pb.CONTAINER_EXITED
            and (pod is None or one.pod_id == pod.id)
            and matches(wanted.label_selector, one.config.labels)
        ]

    def _chosen_pods(self, wanted: pb.PodSandboxStatsFilter) -> list[Pod]:
        only = self._cri.find_pod(wanted.id) if wanted.id else None
        if wanted.id and only is None:
            return []
        return [
            one
            for one in ([only] if only is not None else list(self._cri.pods.values()))
            if one.ready and matches(wanted.label_selector, one.config.labels)
        ]

    # --- where to look -------------------------------------------------------------------

    async def _targets(self, containers: Iterable[Container]) -> list[ContainerTarget]:
        return list(await _all(self._target(one) for one in containers))

    async def _target(self, one: Container) -> ContainerTarget:
        config = one.config
        attributes = pb.ContainerAttributes(
            id=one.id,
            metadata=config.metadata,
            labels=config.labels,
            annotations=config.annotations,
        )
        pod = self._cri.pods.get(one.pod_id)
        running = one.running and pod is not None
        return ContainerTarget(
            attributes=attributes,
            cgroup=self._cri.cgroup_folder(pod, one.id) if running and pod else "",
            started_at_ns=one.started_ns,
            image=config.image.user_specified_image or one.image_ref,
            layer=await self._layer(one),
            rootfs=str(self._cri.engine.settings.root),
            spec=json.loads(one.spec) if one.spec else None,
        )

    async def _layer(self, one: Container) -> Layer | None:
        layers = self._layers.get(one.snapshotter)
        if layers is None:
            snapshots = self._cri.engine.metadata.snapshotter(one.snapshotter)
            layers = self._layers[one.snapshotter] = Layers(
                snapshots.usage,
                self._cri.snapshot_folder(one.snapshotter),
                period_s=float(self._cri.settings.images.stats_collect_period),
            )
        return await layers.get(one.id)

    async def _pod_target(self, pod: Pod) -> PodTarget:
        config = pod.config
        running = [one for one in self._cri.containers_of(pod.id) if one.running]
        return PodTarget(
            attributes=pb.PodSandboxAttributes(
                id=pod.id,
                metadata=config.metadata,
                labels=config.labels,
                annotations=config.annotations,
            ),
            cgroup=self._cri.cgroup_folder(pod, "") if pod.ready else "",
            netns=pod.netns,
            containers=await self._targets(running),
            started_at_ns=pod.created_ns,
        )


async def _all(works: Iterable[Coroutine[Any, Any, ContainerTarget]]) -> list[ContainerTarget]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in works]
    return [task.result() for task in tasks]
