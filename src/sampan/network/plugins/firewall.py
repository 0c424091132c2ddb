"""firewall: lets the host forward what comes from the container, and answers to it.

    filter FORWARD   -j CNI-FORWARD (the first rule)
    CNI-FORWARD      -j CNI-ADMIN (theirs who administer the host)
                     -d <ip> --ctstate RELATED,ESTABLISHED -j ACCEPT;  -s <ip> -j ACCEPT

`ingressPolicy: same-bridge` lets in only what comes from the same bridge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sampan.linux import netlink
from sampan.linux import nftables as nft
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, INVALID_CONFIG, PluginError
from sampan.network.inside import inside
from sampan.network.plugins import iptables as ipt
from sampan.network.plugins.previous import container_ips, previous
from sampan.network.results import to_json, version_of

__all__ = ["add", "check", "delete", "forget_bridge"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_FORWARD: Final = "CNI-FORWARD"
_ADMIN: Final = "CNI-ADMIN"
_STAGES: Final = ("CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2")


def add(call: Call) -> Mapping[str, Any]:
    """Let the container's addresses through."""
    result = previous(call)
    admin, policy = _options(call)
    for version in (4, 6):
        mine = [one.ip for one in result.ips if one.family == version]
        if mine:
            with ipt.Tables(version) as tables:
                tables.change(partial(_build, tables, admin, mine))
                if policy == "same-bridge":
                    for bridge in _bridges(call):
                        tables.change(partial(_isolation, tables, bridge))
    raw: Mapping[str, Any] = call.conf["prevResult"]
    return raw or to_json(result, version_of(call.conf))


def delete(call: Call) -> None:
    """No longer let them through; fine if nothing is known of them."""
    for version in (4, 6):
        addresses = {one for one in _addresses(call) if one.version == version}
        if addresses:
            with ipt.Tables(version) as tables:
                if _concerning(tables, addresses):
                    tables.change(partial(_removal, tables, addresses))


def _removal(tables: ipt.Tables, addresses: Collection[Address]) -> list[bytes]:
    return [tables.delete(rule) for rule in _concerning(tables, addresses)]


def check(call: Call) -> None:
    """Complain if an address is not let through."""
    for one in container_ips(previous(call)):
        with ipt.Tables(one.family) as tables:
            if len(_concerning(tables, {ipaddress.ip_address(one.ip)})) < 2:
                raise PluginError(INTERNAL, f"the firewall does not let {one.ip} through any more")


def forget_bridge(bridge: str) -> None:
    """Remove the rules that keep a bridge apart from others, when the bridge itself goes."""
    name = bridge.encode() + b"\0"
    for version in (4, 6):
        with ipt.Tables(version) as tables:

            def build(tables: ipt.Tables = tables) -> list[bytes]:
                return [
                    tables.delete(rule)
                    for stage in _STAGES
                    for rule in tables.rules("filter", stage)
                    if name in rule.raw
                ]

            if build():
                tables.change(build)


def _options(call: Call) -> tuple[str, str]:
    policy = str(call.conf.get("ingressPolicy") or "open")
    if policy not in ("open", "same-bridge"):
        raise PluginError(INVALID_CONFIG, f"unknown ingress policy {policy!r}")
    return str(call.conf.get("iptablesAdminChainName") or _ADMIN), policy


def _build(tables: ipt.Tables, admin: str, addresses: Sequence[str]) -> list[bytes]:
    changes = tables.base("filter", "FORWARD")
    for chain in (_FORWARD, admin):
        if not tables.has("filter", chain):
            changes += tables.chain("filter", chain)
    if not tables.jumps("filter", "FORWARD", _FORWARD):
        said = ipt.comment("CNI firewall plugin rules")
        changes.append(tables.add("filter", "FORWARD", said, ipt.jump(_FORWARD), first=True))
    if not tables.jumps("filter", _FORWARD, admin):
        said = ipt.comment("CNI firewall plugin admin overrides")
        changes.append(tables.add("filter", _FORWARD, said, ipt.jump(admin), first=True))
    parsed = {ipaddress.ip_address(one) for one in addresses}
    changes += (tables.delete(rule) for rule in _concerning(tables, parsed))
    for one in addresses:
        to = (ipt.destination(one), ipt.conntrack_established(), ipt.jump("ACCEPT"))
        changes.append(tables.add("filter", _FORWARD, *to))
        changes.append(tables.add("filter", _FORWARD, ipt.source(one), ipt.jump("ACCEPT")))
    return changes


def _concerning(tables: ipt.Tables, addresses: Collection[Address]) -> list[nft.Rule]:
    """Return the rules about these addresses."""
    raw = {one.packed for one in addresses}
    return [
        rule
        for rule in tables.rules("filter", _FORWARD)
        if any(one in rule.raw for one in raw) and ipt.address_of(rule) in raw
    ]


def _addresses(call: Call) -> set[Address]:
    """Return the container's addresses: by the result, or as they still are inside."""
    if call.conf.get("prevResult"):
        return {ipaddress.ip_address(one.ip) for one in container_ips(previous(call))}
    if not call.netns:
        return set()

    def look() -> list[netlink.Address]:
        with netlink.Route() as route:
            return route.addresses(route.link(call.ifname).index)

    with suppress(OSError):
        return {ipaddress.ip_address(one.address) for one in inside(call.netns, look)}
    return set()


def _bridges(call: Call) -> list[str]:
    """Return the bridges of the host in the result."""
    found = []
    with netlink.Route() as route:
        for one in previous(call).interfaces:
            if not one.sandbox:
                with suppress(OSError):
                    if route.link(one.name).kind == "bridge":
                        found.append(one.name)
    return found


def _isolation(tables: ipt.Tables, bridge: str) -> list[bytes]:
    """Return what keeps out of a bridge all that comes from another one."""
    said = "CNI firewall plugin rules (ingressPolicy: same-bridge)"
    first, second = _STAGES
    changes: list[bytes] = []
    for chain in _STAGES:
        if not tables.has("filter", chain):
            changes += tables.chain("filter", chain)
            changes.append(tables.add("filter", chain, ipt.comment(said), ipt.jump("RETURN")))
    if not tables.jumps("filter", "FORWARD", first):
        changes.append(
            tables.add("filter", "FORWARD", ipt.comment(said), ipt.jump(first), first=True)
        )
    name = bridge.encode() + b"\0"
    if not any(name in rule.raw for rule in tables.rules("filter", first)):
        parts = (ipt.interface("in", bridge), ipt.interface("out", bridge, negate=True))
        changes.append(
            tables.add("filter", first, *parts, ipt.comment(said), ipt.jump(second), first=True)
        )
    if not any(name in rule.raw for rule in tables.rules("filter", second)):
        out = ipt.interface("out", bridge)
        changes.append(
            tables.add("filter", second, out, ipt.comment(said), ipt.jump("DROP"), first=True)
        )
    return changes
