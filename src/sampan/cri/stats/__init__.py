"""Figures of pods and containers, read from the kernel when somebody asks.

    kernel: cgroup files, PSI, netlink, statfs ─▶ collect ─▶ Figures ─▶ messages, metrics ─▶ CRI
             blocking, in a thread                          values       pure functions

    stats = Stats()
    await stats.container(target)       # runtime.v1.ContainerStats
    await stats.pod(pod_target)         # runtime.v1.PodSandboxStats, its containers inside
    await stats.metrics(pod_target)     # runtime.v1.PodSandboxMetrics, with cadvisor's names
    stats.descriptors()                 # of ListMetricDescriptors
    stats.forget(id)                    # when a pod or container is removed

A `ContainerTarget` or `PodTarget` says where to look; filters and records are the caller's. What
does not exist (a container that has exited, a controller the host lacks) leaves its field unset
rather than zero, and never fails a list.

`usage_nano_cores` is the rate between two looks at least a second apart, and before there are two,
the average since the container started: no timer wakes an idle daemon for it.

Usage of writable layers means walking them, so `Layers` keeps each for ten seconds.

Modules: collect (cgroups, processes, file systems) · interfaces (netlink) · messages · metrics ·
sampler · layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sampan.api.cri.v1 import api_pb2 as pb
    from sampan.cri.stats.layers import Layers
    from sampan.cri.stats.sampler import Stats

__all__ = ["ContainerTarget", "Layer", "Layers", "PodTarget", "Stats"]


class Layer(NamedTuple):
    """What a container has written to its root."""

    timestamp_ns: int
    used_bytes: int
    inodes: int
    mountpoint: str
    """Of the file system or snapshotter that holds it, as ImageFsInfo names it."""


class ContainerTarget(NamedTuple):
    """Where to look for a container's figures."""

    attributes: pb.ContainerAttributes
    cgroup: str
    """cgroupsPath of its config.json, below each hierarchy's root; empty when it does not run."""
    started_at_ns: int = 0
    image: str = ""
    """As the user named it; the label `image` of its metrics."""
    layer: Layer | None = None
    rootfs: str = ""
    """A path on the file system of the root, for its size; empty leaves that out."""
    spec: Mapping[str, Any] | None = None
    """config.json, for limits and rlimits."""


class PodTarget(NamedTuple):
    """Where to look for a pod's figures."""

    attributes: pb.PodSandboxAttributes
    cgroup: str
    """The pod's own cgroup, parent of its containers'; empty sums up the containers."""
    netns: str = ""
    """Path of the network namespace; empty on the host's network, which is not the pod's."""
    containers: Sequence[ContainerTarget] = ()
    started_at_ns: int = 0


_HOMES = {"Layers": "layers", "Stats": "sampler"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
