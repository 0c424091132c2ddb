"""What the daemon itself adds to the graph that introspection shows: its services, in our order.

Clients look for names of containerd's graph, so these are its types and ids, and what stands behind
each is ours. Nothing is started here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sampan.plugin import Instance, PluginType, Registration

__all__ = ["HANDLERS", "instances"]

HANDLERS: Final[tuple[str, ...]] = ("sampan.cri.serving:handlers",)
"""`module:function` of rooms that serve more than containerd's services: each function takes the
Engine and returns, or coroutine returns, handlers of grpclib."""

_PLUGINS: Final = (
    ("io.containerd.event.v1", "exchange"),
    ("io.containerd.metadata.v1", "bolt"),
    ("io.containerd.lease.v1", "manager"),
    ("io.containerd.gc.v1", "scheduler"),
    ("io.containerd.differ.v1", "walking"),
    ("io.containerd.runtime.v2", "task"),
    ("io.containerd.sandbox.store.v1", "local"),
    ("io.containerd.sandbox.controller.v1", "shim"),
    ("io.containerd.mount-manager.v1", "bolt"),
    ("io.containerd.streaming.v1", "manager"),
    ("io.containerd.transfer.v1", "local"),
    ("io.containerd.monitor.container.v1", "restart"),
    ("io.containerd.server.v1", "grpc"),
    ("io.containerd.server.v1", "ttrpc"),
    ("io.containerd.cri.v1", "images"),
    ("io.containerd.cri.v1", "runtime"),
    ("io.containerd.grpc.v1", "cri"),
    *(
        ("io.containerd.service.v1", f"{name}-service")
        for name in (
            *("containers", "content", "diff", "images", "introspection", "leases"),
            *("namespaces", "snapshots", "tasks"),
        )
    ),
    *(
        ("io.containerd.grpc.v1", name)
        for name in (
            *("containers", "content", "diff", "events", "healthcheck", "images"),
            *("introspection", "leases", "mounts", "namespaces", "sandbox-controllers"),
            *("sandboxes", "snapshots", "streaming", "tasks", "transfer", "version"),
        )
    ),
)
"""Type and id; `bolt` is what clients know the metadata by, whatever keeps it."""


def _not_started(_: Any) -> object:
    raise NotImplementedError  # the daemon makes it with its own hands


def instances(started: Iterable[Instance] = (), opt: str = "") -> list[Instance]:
    """Return what works because the daemon does, without what the engine has started itself.

    Args:
      started: What the engine has.
      opt: Folder where `ctr install` puts programs; empty is nowhere.
    """
    there = {one.registration.uri for one in started}
    made = [
        Instance(Registration(PluginType(kind), name, _not_started), value=True)
        for kind, name in _PLUGINS
    ]
    if opt:
        registration = Registration(PluginType("io.containerd.internal.v1"), "opt", _not_started)
        made.append(Instance(registration, value=True, exports={"path": opt}))
    return [one for one in made if one.registration.uri not in there]
