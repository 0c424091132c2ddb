"""The room's plugins: what the engine can be told to open, and what each may be told.

An init imports its module itself, so that an engine pays for no store that it does not open.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from sampan.plugin import InitContext, PluginType, Skip, plugin
from sampan.storage.content import BareStore
from sampan.storage.snapshots import Snapshotter

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CONTENT", "SNAPSHOTTER", "host", "local", "native", "overlayfs"]

CONTENT: Final[PluginType[BareStore]] = PluginType("io.containerd.content.v1")
SNAPSHOTTER: Final[PluginType[Snapshotter]] = PluginType("io.containerd.snapshotter.v1")


class SnapshotterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[plugins."io.containerd.snapshotter.v1.<id>"] in config.toml."""

    root_path: str = ""
    """Where to keep snapshots; empty means the plugin's own root."""


@plugin(CONTENT, "content")
def local(ctx: InitContext[None]) -> BareStore:
    """Open the content store of the root."""
    from sampan.storage.content.local import LocalStore

    _folder(ctx.root)
    ctx.instance.exports["root"] = str(ctx.root)
    return LocalStore(ctx.root)


@plugin(SNAPSHOTTER, "overlayfs", config=SnapshotterConfig)
def overlayfs(ctx: InitContext[SnapshotterConfig]) -> Snapshotter:
    """Open the overlay snapshotter, unless the kernel has no overlayfs."""
    from sampan.storage.snapshots.overlay import OverlaySnapshotter

    with open("/proc/filesystems", encoding="ascii") as known:
        if "\toverlay\n" not in known.read():
            raise Skip("this kernel has no overlayfs: load the module, or use native")
    root = ctx.config.root_path or os.fspath(ctx.root)
    ctx.instance.exports["root"] = root
    opened = OverlaySnapshotter(root)
    ctx.instance.capabilities[:] = sorted(opened.capabilities)
    return opened


@plugin(SNAPSHOTTER, "native", config=SnapshotterConfig)
def native(ctx: InitContext[SnapshotterConfig]) -> Snapshotter:
    """Open the snapshotter that copies, and works everywhere."""
    from sampan.storage.snapshots.native import NativeSnapshotter

    root = ctx.config.root_path or os.fspath(ctx.root)
    ctx.instance.exports["root"] = root
    return NativeSnapshotter(root)


@plugin(SNAPSHOTTER, "host", config=SnapshotterConfig)
def host(ctx: InitContext[SnapshotterConfig]) -> Snapshotter:
    """Open the source of roots made of the host's own programs."""
    from sampan.storage.snapshots.host import HostSnapshotter

    root = ctx.config.root_path or os.fspath(ctx.root)
    ctx.instance.exports["root"] = root
    return HostSnapshotter(root)


def _folder(path: Path) -> None:
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
