"""NRI: plugins that watch pods and containers, and may change a container before it is made.

    plugin ── connects to /var/run/nri/nri.sock, or is started from /opt/nri/plugins ──▶ Nri
      │ ── RegisterPlugin(name, index) ─▶ │        one connection, both directions: ttrpc in both,
      │ ◀─ Configure ──────────────────── │        told apart by a small multiplexing header
      │ ◀─ Synchronize(pods, containers)  │
      │ ◀─ RunPodSandbox, CreateContainer … │ ◀── the CRI rooms, at each step of a life
      │ ── adjustment, updates ─────────▶ │ ──▶ merged in order of the plugins' index
      │ ── UpdateContainers ────────────▶ │ ──▶ Runtime

    nri = Nri(runtime, NriConfig(enabled=True))
    await nri.start()                       # disabled: every call below returns at once
    async with nri.changing():              # no plugin joins in the middle of a change
        changes = await nri.create_container(pod, container)     # both api.nri messages
        spec = adjusted(spec, changes.adjust)                    # config.json as parsed JSON
        ... make it ...
        await nri.post_create_container(pod, container)
    await nri.close()

The CRI rooms tell of every change, and supply `Runtime`. `container_message(spec, ...)` makes the
Container of a config.json. A plugin that does not answer in time, or breaks the protocol, is
dropped; what it failed to say does not stop the pod. Two plugins that set the same thing are a
conflict, and the container is refused with both names.

In-process plugins are Python objects with any of the methods of `Plugin`, found by the entry point
group `sampan.nri`, or given to `Nri`; they stand in the same order, under the same rules.

Modules: mux (frames, no I/O) · trunk (both directions over one socket) · external (one plugin over
a trunk) · inprocess · launch · merge and owners (adjustments, conflicts) · validate (the built-in
checks) · apply (to config.json) · convert · service (order, joining, dropping, events).

Source: containerd/nri v0.12: pkg/api, pkg/net/multiplex, pkg/adaptation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from sampan.api.nri.v1alpha1 import api_pb2 as pb
    from sampan.cri.nri.apply import adjusted, updated
    from sampan.cri.nri.convert import container_message, cri_resources, kubelets_resources
    from sampan.cri.nri.service import Nri

__all__ = [
    "Changes",
    "Nri",
    "NriConfig",
    "Runtime",
    "Updated",
    "adjusted",
    "container_message",
    "cri_resources",
    "kubelets_resources",
    "updated",
]


class NriConfig(NamedTuple):
    """`[plugins."io.containerd.nri.v1.nri"]` of the configuration."""

    enabled: bool = True
    socket: Path = Path("/var/run/nri/nri.sock")
    """Where external plugins connect."""
    listen: bool = True
    """False is containerd's `disable_connections`: only plugins that we start, and in-process."""
    plugins: Path = Path("/opt/nri/plugins")
    """Executables `<two digits>-<name>`, each started with us."""
    plugin_config: Path = Path("/etc/nri/conf.d")
    """`<index>-<name>.conf` or `<name>.conf`, sent in Configure."""
    registration_timeout_s: float = 5.0
    request_timeout_s: float = 2.0
    runtime_name: str = "sampan"
    runtime_version: str = ""
    allow_hooks: bool = True
    """False refuses containers whose OCI hooks a plugin has changed; so do the next ones."""
    refuse_seccomp: Collection[str] = ()
    """Whose seccomp no plugin may change: `runtime_default`, `unconfined`, `localhost`."""
    allow_namespaces: bool = True
    allow_sysctl: bool = True
    required_plugins: Sequence[str] = ()
    """Without these registered, no container is made."""


class Changes(NamedTuple):
    """What all plugins together want."""

    adjust: pb.ContainerAdjustment
    """To the container that is being created; see `adjusted`."""
    updates: Sequence[pb.ContainerUpdate]
    """To other containers, in order; carried out by the caller."""
    evict: Sequence[pb.ContainerEviction] = ()


class Updated(NamedTuple):
    """What becomes of an update of a container."""

    resources: pb.LinuxResources
    """For the container itself: what was asked for, with what plugins changed."""
    updates: Sequence[pb.ContainerUpdate]
    """To other containers, in order; carried out by the caller."""
    evict: Sequence[pb.ContainerEviction] = ()


class Runtime(Protocol):
    """What the CRI rooms supply."""

    async def everything(self) -> tuple[Sequence[pb.PodSandbox], Sequence[pb.Container]]:
        """Return all pods and containers, for a plugin that has just joined."""
        ...

    async def update(self, updates: Sequence[pb.ContainerUpdate]) -> Sequence[pb.ContainerUpdate]:
        """Change containers' resources; return the updates that failed."""
        ...

    async def evict(self, container_id: str, reason: str) -> None:
        """Stop a container because a plugin wants it."""
        ...


_HOMES = {
    "Nri": "service",
    "adjusted": "apply",
    "updated": "apply",
    "container_message": "convert",
    "cri_resources": "convert",
    "kubelets_resources": "convert",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
