"""A worker that lets a container's child report the modules that it has loaded before execve."""

from __future__ import annotations

import json
import os
import sys

from sampan import oci

__all__ = ["preload", "worker"]


def preload() -> None:
    """Load all that a birth needs; called by the zygote."""
    oci.preload()


def worker(payload: bytes, fds: list[int]) -> int:
    """Create and delete a container; write `sys.modules` of before, of the child, of after."""
    root, name, bundle = json.loads(payload)
    before = sorted(sys.modules)
    container = oci.create(root=root, id=name, bundle=bundle, stdio=(0, 1, 2), debug_modules=True)
    modules = container.modules
    after = sorted(sys.modules)
    os.kill(container.pid, 9)
    os.waitid(os.P_PID, container.pid, os.WEXITED)
    container.delete()
    os.write(fds[0], json.dumps({"before": before, "child": modules, "after": after}).encode())
    return 0
