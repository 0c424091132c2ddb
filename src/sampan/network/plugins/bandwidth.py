"""bandwidth: limits what goes into the container and out of it, by token buckets on the host's end.

into it      root of vethX:  tbf
out of it    ingress of vethX → bwpXXXX (ifb), root: tbf
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from sampan.linux import netlink, traffic
from sampan.network import Interface
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, INVALID_CONFIG, PluginError
from sampan.network.plugins.previous import host_end, previous
from sampan.network.results import to_json, version_of

__all__ = ["add", "check", "collect", "delete", "ifb_name"]

_PREFIX: Final = "bwp"
_IFNAMSIZ: Final = 15
_MAX_BURST_BITS: Final = 0xFFFFFFFF * 8


@dataclass(frozen=True, slots=True)
class _Limit:
    """In bits and bits a second; rate 0 is none."""

    rate: int
    burst: int


def ifb_name(network: str, id: str) -> str:
    """Return the name of the interface that traffic out of a container passes."""
    return (_PREFIX + hashlib.sha512(f"{network}{id}".encode()).hexdigest())[:_IFNAMSIZ]


def add(call: Call) -> Mapping[str, Any]:
    """Set the limits."""
    result = previous(call)
    ingress, egress = _limits(call)
    raw: Mapping[str, Any] = call.conf["prevResult"]
    if not ingress.rate and not egress.rate:
        return raw
    with netlink.Route() as host:
        end = host_end(call, host)
        if ingress.rate:
            host.execute([_bucket(end.index, ingress)])
        if not egress.rate:
            return raw
        name = ifb_name(str(call.conf["name"]), call.container_id)
        host.execute([netlink.add_ifb(name, mtu=end.mtu)])
        try:
            ifb = host.link(name)
            host.execute(
                [
                    traffic.add_ingress(end.index),
                    traffic.add_redirect(end.index, ifb.index),
                    _bucket(ifb.index, egress),
                ]
            )
        except BaseException:
            _delete(host, name)
            raise
    interface = Interface(ifb.name, ifb.mac, mtu=ifb.mtu)
    added = replace(result, interfaces=(*result.interfaces, interface))
    return to_json(added, version_of(call.conf))


def delete(call: Call) -> None:
    """Remove the interface of ours; the rest goes with the pair."""
    with netlink.Route() as host:
        _delete(host, ifb_name(str(call.conf["name"]), call.container_id))


def check(call: Call) -> None:
    """Complain about limits that are missing or other ones."""
    ingress, egress = _limits(call)
    with netlink.Route() as host:
        if ingress.rate:
            _expect(host, host_end(call, host), ingress)
        if egress.rate:
            name = ifb_name(str(call.conf["name"]), call.container_id)
            try:
                ifb = host.link(name)
            except OSError as error:
                raise PluginError(INTERNAL, f"interface {name} is missing") from error
            _expect(host, ifb, egress)


def collect(call: Call) -> None:
    """Nothing: an interface does not tell whose it is, and its container's DEL removes it."""


def _expect(host: netlink.Route, link: netlink.Link, limit: _Limit) -> None:
    buckets = [one for one in traffic.qdiscs(host, link.index) if one.kind == "tbf"]
    if not any(one.rate == min(limit.rate // 8, 0xFFFFFFFF) for one in buckets):
        raise PluginError(INTERNAL, f"{link.name} is not limited to {limit.rate} bit/s any more")


def _bucket(index: int, limit: _Limit) -> bytes:
    return traffic.add_token_bucket(index, rate=limit.rate // 8, burst=limit.burst // 8)


def _delete(host: netlink.Route, name: str) -> None:
    with suppress(OSError):
        host.execute([netlink.delete_link(host.link(name).index)])


def _limits(call: Call) -> tuple[_Limit, _Limit]:
    """Return the limits into and out of the container; runtimeConfig wins as a whole."""
    wished = (call.conf.get("runtimeConfig") or {}).get("bandwidth") or call.conf
    found = []
    for way in ("ingress", "egress"):
        rate = int(wished.get(f"{way}Rate") or 0)
        burst = int(wished.get(f"{way}Burst") or 0)
        if burst < 0 or rate < 0:
            raise PluginError(INVALID_CONFIG, f"{way} rate and burst must not be negative")
        if burst == 0 and rate != 0:
            raise PluginError(INVALID_CONFIG, f"if {way} rate is set, burst must also be set")
        if rate == 0 and burst != 0:
            raise PluginError(INVALID_CONFIG, f"if {way} burst is set, rate must also be set")
        if burst > _MAX_BURST_BITS:
            raise PluginError(INVALID_CONFIG, f"{way} burst cannot be more than 4GB")
        found.append(_Limit(rate, burst))
    return found[0], found[1]
