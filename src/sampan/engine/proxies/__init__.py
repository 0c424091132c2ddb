"""Plugins of other processes, over containerd's gRPC services: `[proxy_plugins.<id>]`.

    [proxy_plugins.stargz]
      type = "snapshot"                       # or content, diff, sandbox
      address = "/run/containerd-stargz-grpc/containerd-stargz-grpc.sock"
      capabilities = ["rebase"]               # of a snapshotter
      [proxy_plugins.stargz.exports]
        root = "/var/lib/containerd-stargz-grpc/"

Each becomes a plugin of the graph with the id it has there, and does what one of ours would do. The
other direction needs nothing: our own services are what others' proxies speak to.

Every call carries the namespace of its request, or, where there is none (collections), that of the
key in hand. A daemon that keeps namespaces apart itself, as containerd does, wants one for all:
`exports.namespace` names it. Every call has a deadline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from sampan.engine.extensions import CONTENT, DIFFER, SANDBOXER, SNAPSHOTTER
from sampan.errors import InvalidArgument
from sampan.plugin import InitContext, PluginType, Registration

if TYPE_CHECKING:
    from sampan.engine.schema import ProxyPlugin

__all__ = ["registrations"]

_KINDS: Final[dict[str, tuple[PluginType[Any], str]]] = {
    "snapshot": (SNAPSHOTTER, "snapshots:ProxySnapshotter"),
    "content": (CONTENT, "content:ProxyContent"),
    "diff": (DIFFER, "diff:ProxyDiffer"),
    "sandbox": (SANDBOXER, "sandbox:ProxySandboxer"),
}


def registrations(plugins: Mapping[str, ProxyPlugin]) -> Iterator[Registration[Any, Any]]:
    """Yield a registration for each proxy; nothing is connected before the first call.

    Raises:
      InvalidArgument: an unknown type, or no address.
    """
    for id, one in plugins.items():  # noqa: A001
        if one.type not in _KINDS:
            raise InvalidArgument(
                f"proxy_plugins.{id}.type: {one.type!r} is none of {', '.join(_KINDS)}"
            )
        address = one.address.removeprefix("unix://")
        if not address.startswith("/"):
            raise InvalidArgument(
                f"proxy_plugins.{id}.address: {one.address!r} is no socket's path"
            )
        kind, home = _KINDS[one.type]
        yield Registration(kind, id, _maker(id, one, address, home), None, (), one.capabilities)


def _maker(id: str, one: ProxyPlugin, address: str, home: str) -> Any:
    def make(ctx: InitContext[None]) -> object:
        ctx.instance.exports.update({"address": address, **one.exports})
        module, _, name = home.partition(":")
        kind = getattr(import_module(f"{__name__}.{module}"), name)
        return kind(id, one, address)

    return make
