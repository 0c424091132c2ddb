"""From targets to answers: reads in threads, side by side, and remembers CPU times for the rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import Limit, to_thread
from sampan.cri.stats import ContainerTarget, PodTarget
from sampan.cri.stats.collect import (
    Descriptors,
    Figures,
    FileSystem,
    collect,
    descriptors,
    file_system,
    soft_limits,
    total,
)
from sampan.cri.stats.interfaces import Interface, interfaces
from sampan.cri.stats.messages import container_stats, pod_stats
from sampan.cri.stats.metrics import Sample, container_metrics, descriptors_of, pod_metrics

__all__ = ["Stats"]

_READERS: Final = Limit("stats", 4)
_WINDOW_NS: Final = 1_000_000_000
_SECOND_NS: Final = 1_000_000_000


class _Look(NamedTuple):
    timestamp_ns: int
    cpu_ns: int


class _Rate(NamedTuple):
    last: _Look
    nano_cores: int


class _Seen(NamedTuple):
    """What one visit of a thread brings home."""

    figures: Figures | None
    descriptors: Descriptors = Descriptors(0, 0)
    soft_limits: dict[str, int] = {}  # noqa: RUF012 - never changed
    file_system: FileSystem | None = None


class Stats:
    """All of the CRI's statistics; see the front door. Belongs to one event loop."""

    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}

    def descriptors(self) -> list[pb.MetricDescriptor]:
        """Return what ListMetricDescriptors answers."""
        return descriptors_of()

    def forget(self, id: str) -> None:
        """Drop what is remembered of a pod or container."""
        self._rates.pop(id, None)

    async def container(self, target: ContainerTarget) -> pb.ContainerStats:
        """Return a container's figures; of one that does not run, what it has written."""
        figures = await to_thread(_figures, target.cgroup, limit=_READERS)
        return self._container(target, figures)

    async def containers(self, targets: Sequence[ContainerTarget]) -> list[pb.ContainerStats]:
        """Return the figures of many, in their order, read by one thread."""
        cgroups = [target.cgroup for target in targets]
        read = await to_thread(_many, cgroups, limit=_READERS)
        return [
            self._container(target, figures) for target, figures in zip(targets, read, strict=True)
        ]

    async def pod(self, target: PodTarget) -> pb.PodSandboxStats:
        """Return a pod's figures and those of its containers."""
        cgroups = [target.cgroup, *(one.cgroup for one in target.containers)]
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(to_thread(_many, cgroups, limit=_READERS))
            network = group.create_task(to_thread(_network, target.netns, limit=_READERS))
        own, *parts = reading.result()
        now = time.time_ns()
        if own is None and (known := [part for part in parts if part is not None]):
            own = total(known, now)
        stats = [
            self._container(one, part) for one, part in zip(target.containers, parts, strict=True)
        ]
        id = target.attributes.id  # noqa: A001 - the CRI's word
        rate = self._nano_cores(id, own, target.started_at_ns)
        return pod_stats(target.attributes, own, rate, network.result(), now, stats)

    async def metrics(self, target: PodTarget) -> pb.PodSandboxMetrics:
        """Return a pod's metrics and those of its containers that run."""
        metadata = target.attributes.metadata
        pod_labels = [metadata.name, metadata.namespace]
        made = pb.PodSandboxMetrics(pod_sandbox_id=target.attributes.id)
        network = await to_thread(_network, target.netns, limit=_READERS)
        labels = [*pod_labels, "", target.attributes.id, ""]
        made.metrics.extend(pod_metrics(labels, network or (), time.time_ns()))
        seen = await to_thread(_look_closely, tuple(target.containers), limit=_READERS)
        for one, found in zip(target.containers, seen, strict=True):
            if found.figures is None:
                continue
            sample = Sample(
                found.figures,
                found.descriptors,
                found.soft_limits,
                one.started_at_ns,
                one.layer,
                found.file_system,
                one.spec,
            )
            name = one.attributes.metadata.name
            labels = [*pod_labels, name, one.attributes.id, one.image]
            made.container_metrics.append(
                pb.ContainerMetrics(
                    container_id=one.attributes.id, metrics=container_metrics(labels, sample)
                )
            )
        return made

    def _container(self, target: ContainerTarget, figures: Figures | None) -> pb.ContainerStats:
        rate = self._nano_cores(target.attributes.id, figures, target.started_at_ns)
        return container_stats(target.attributes, figures, rate, target.layer)

    def _nano_cores(self, id: str, figures: Figures | None, started_at_ns: int) -> int | None:
        """Return the CPU rate: since the last look, or since the start at the first one."""
        if figures is None or figures.cpu_ns is None:
            return None
        look = _Look(figures.timestamp_ns, figures.cpu_ns)
        known = self._rates.get(id)
        if known is None:
            since = _Look(started_at_ns, 0) if started_at_ns else look
        elif look.timestamp_ns - known.last.timestamp_ns < _WINDOW_NS:
            return known.nano_cores  # too soon: a rate over so little time means nothing
        else:
            since = known.last
        elapsed, used = look.timestamp_ns - since.timestamp_ns, look.cpu_ns - since.cpu_ns
        # A container that was restarted under its id begins at zero again.
        rate = max(used, 0) * _SECOND_NS // elapsed if elapsed > 0 else 0
        self._rates[id] = _Rate(look, rate)
        return rate


def _figures(cgroup: str) -> Figures | None:
    return collect(cgroup) if cgroup else None


def _many(cgroups: Sequence[str]) -> list[Figures | None]:
    return [_figures(cgroup) for cgroup in cgroups]


def _network(netns: str) -> list[Interface] | None:
    return interfaces(netns) if netns else None


def _look_closely(targets: Sequence[ContainerTarget]) -> list[_Seen]:
    """Read all that metrics need, in the order of `targets`."""
    seen: list[_Seen] = []
    for target in targets:
        figures = _figures(target.cgroup)
        if figures is None:
            seen.append(_Seen(None))
            continue
        below = file_system(target.rootfs) if target.rootfs else None
        first = min(figures.pids, default=0)
        limits = soft_limits(first) if first else {}
        seen.append(_Seen(figures, descriptors(figures.pids), limits, below))
    return seen
