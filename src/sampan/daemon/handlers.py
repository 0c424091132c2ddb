"""What the gRPC server serves: containerd's services, and those that `served.HANDLERS` names."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sampan.concurrency import run
from sampan.daemon.served import HANDLERS
from sampan.engine import Engine
from sampan.plugin import Instance
from sampan.runtime.controller import SandboxController
from sampan.runtime.mounting.manager import LocalMounts
from sampan.services.faces import Rooms, faces
from sampan.services.transfer.operations import Policy

__all__ = ["handlers"]

_SANDBOXER = "io.containerd.sandbox.controller.v1"


async def handlers(engine: Engine, plugins: Sequence[Instance]) -> list[Any]:
    """Return the handlers of grpclib.

    Args:
      engine: What they stand on.
      plugins: What introspection shows.
    """
    settings = engine.settings
    mounts = LocalMounts(settings.state / "mounts", [settings.root])
    await mounts.recover()
    found = faces(
        Rooms(
            metadata=engine.metadata,
            tasks=engine.tasks,
            events=engine.events,
            runner=engine.runner,
            uuid=await engine.identity(),
            plugins=plugins,
            state=settings.state,
            sandboxes=SandboxController(settings.state, engine.shims),
            mounts=mounts,
            transfers=Policy(
                lambda: engine.settings.hosts_dir,  # SIGHUP may change it
                snapshotter=settings.snapshotter,
                environ=dict(os.environ),
                verify=engine.verify_image,
                credentials=engine.credentials(None),
            ),
            differ=engine.differ(),
            proxied=engine.graph.all(_SANDBOXER),
            features=_features,
        )
    )
    for name in HANDLERS:
        module, _, attribute = name.partition(":")
        more = getattr(import_module(module), attribute)(engine)
        found += await more if inspect.isawaitable(more) else more
    return found


async def _features() -> bytes:
    """Return what our OCI runtime says of itself; it is never loaded in this process."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = await run(
        [sys.executable, "-P", "-m", "sampan.oci", "features"],
        env={**os.environ, "PYTHONPATH": path},
        timeout_s=10,
    )
    return done.check().stdout
