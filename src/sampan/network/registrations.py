"""What the engine may start of this room; nothing of it is imported before it is used.

Every program that opens an engine starts these, and few of them ever connect a container.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from sampan.network import (
    NETWORK_NAMESPACES,
    NETWORK_STORE,
    NETWORKS,
    NetworkNamespaces,
    Networks,
    NetworkStore,
)
from sampan.plugin import InitContext, plugin

__all__ = ["CniSettings", "PinnedSettings", "bridge", "cni", "pinned"]


class CniSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[plugins."io.sampan.network.v1.cni"] in config.toml; names as in containerd's `cni` table."""

    conf_dir: str = "/etc/cni/net.d"
    bin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
    cache_dir: str = "/var/lib/cni"
    max_conf_num: int = 1
    builtin: bool = True
    """Serve bridge, host-local, portmap, ... in process."""
    default_network: bool = True
    """Make a bridge network where `conf_dir` has none."""
    timeout_s: float = 60.0
    """For each call of an executable."""


class PinnedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[plugins."io.sampan.netns.v1.pinned"] in config.toml."""

    folder: str = ""
    """Where to pin namespaces; empty means the plugin's own state folder."""


class _Deferred:
    """Stands for an object until somebody asks for an attribute of it."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._made: object | None = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)

    async def close(self) -> None:
        """Close the object if it was made."""
        if self._made is not None:
            await getattr(self._made, "close", _nothing)()


async def _nothing() -> None:
    """What closes an object that cannot be closed."""


@plugin(NETWORKS, "cni", config=CniSettings)
def cni(ctx: InitContext[CniSettings]) -> Networks:
    """Networks by CNI."""
    given, root = ctx.config, ctx.root

    def make() -> Networks:
        from sampan.network.cni import CniConfig, CniNetworks

        return CniNetworks(
            CniConfig(
                root=root,
                conf_dir=Path(given.conf_dir),
                bin_dirs=given.bin_dirs,
                cache_dir=Path(given.cache_dir),
                max_conf_num=given.max_conf_num,
                builtin=given.builtin,
                default_network=given.default_network,
                timeout_s=given.timeout_s,
            )
        )

    return cast(Networks, _Deferred(make))


@plugin(NETWORK_NAMESPACES, "pinned", config=PinnedSettings)
def pinned(ctx: InitContext[PinnedSettings]) -> NetworkNamespaces:
    """Namespaces pinned by mounts."""
    folder = Path(ctx.config.folder) if ctx.config.folder else ctx.state

    def make() -> NetworkNamespaces:
        from sampan.network.namespaces import PinnedNamespaces

        return PinnedNamespaces(folder)

    return cast(NetworkNamespaces, _Deferred(make))


@plugin(NETWORK_STORE, "bridge", requires=(NETWORKS,))
def bridge(ctx: InitContext[None]) -> NetworkStore:
    """Networks that people make."""
    networks: Any = ctx.get(NETWORKS)

    def make() -> NetworkStore:
        from sampan.network.store import BridgeNetworks

        return BridgeNetworks(networks.config)

    return cast(NetworkStore, _Deferred(make))
