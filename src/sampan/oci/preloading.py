"""Imports all that this room may ever need, for processes that refuse imports after a fork."""

from __future__ import annotations

from sampan import cgroups

__all__ = ["load_all"]

_MODULES = ("container", "birth", "hooks", "seccomp", "features")


def load_all() -> None:
    """Load all of it, libseccomp's binding and the cgroup controllers included."""
    for name in _MODULES:
        __import__(f"sampan.oci.{name}")
    cgroups.preload()
