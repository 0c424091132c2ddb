"""Importing this imports all that the room may ever need: for a zygote's preload list."""

from __future__ import annotations

from sampan import cgroups
from sampan.oci import commands

__all__ = ["load_all"]

_MODULES = (
    "container", "creation", "birth", "hooks", "seccomp", "features", "idmaps", "netdevices", "rdt",
    "criu.dump", "criu.undump",
)  # fmt: skip


def load_all() -> None:
    """Load all of it, libseccomp's binding and the cgroup controllers included."""
    for name in _MODULES:
        __import__(f"sampan.oci.{name}")
    commands.load_all()
    cgroups.preload()


load_all()
