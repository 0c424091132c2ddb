"""A snapshotter whose snapshots live on a tmpfs: quick to write to, and gone after a reboot.

    [plugins."io.containerd.snapshotter.v1.memory"]
      root_path = "/dev/shm/sampan-snapshots"

    ctr snapshots --snapshotter memory prepare scratch

It stacks folders as overlayfs does, so it has our own snapshotter do the work, under its own name.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from sampan.engine.extensions import SNAPSHOTTER
from sampan.plugin import InitContext, Skip, plugin
from sampan.storage.snapshots import Snapshotter
from sampan.storage.snapshots.overlay import OverlaySnapshotter

__all__ = ["memory"]


class MemoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    root_path: str = "/dev/shm/sampan-snapshots"  # noqa: S108 - a tmpfs is the point
    """A folder on a tmpfs."""


@plugin(SNAPSHOTTER, "memory", config=MemoryConfig)
def memory(ctx: InitContext[MemoryConfig]) -> Snapshotter:
    """Open it, unless there is no tmpfs to open it on."""
    root = ctx.config.root_path
    if not os.path.isdir(os.path.dirname(root)):
        raise Skip(f"{os.path.dirname(root)} is no folder: mount a tmpfs, or set root_path")
    ctx.instance.exports["root"] = root
    return Memory(root)


class Memory:
    """Everything of the overlay snapshotter but its name."""

    name = "memory"

    def __init__(self, root: str) -> None:
        self._inner = OverlaySnapshotter(root)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
