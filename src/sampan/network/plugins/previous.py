"""What plugins that come second need of the result before them."""

from __future__ import annotations

from sampan.linux import netlink
from sampan.network import Ip, Result
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, INVALID_CONFIG, PluginError
from sampan.network.inside import inside
from sampan.network.results import from_json, version_of

__all__ = ["container_ips", "host_end", "previous"]


def previous(call: Call) -> Result:
    """Return the result of the plugin before.

    Raises:
      PluginError: there was none.
    """
    raw = call.conf.get("prevResult")
    if raw is None:
        raise PluginError(INVALID_CONFIG, "must be called as a chained plugin: no prevResult")
    return from_json(raw, version_of(call.conf))


def container_ips(result: Result) -> list[Ip]:
    """Return the addresses that are inside the container."""
    return [
        one
        for one in result.ips
        if one.interface is None or result.interfaces[one.interface].sandbox
    ]


def host_end(call: Call, host: netlink.Route) -> netlink.Link:
    """Return the host's end of the container's pair of interfaces.

    Raises:
      PluginError: the container's interface is no end of a pair.
    """

    def look() -> int:
        with netlink.Route() as route:
            return route.link(call.ifname).peer

    index = inside(call.netns, look)
    if not index:
        raise PluginError(INTERNAL, f"interface {call.ifname} has no peer on the host")
    try:
        return host.link_at(index)
    except OSError as error:
        raise PluginError(INTERNAL, f"the peer of {call.ifname} is not on the host") from error
