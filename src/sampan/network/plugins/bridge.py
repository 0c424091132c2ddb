"""bridge: a pair of interfaces, one end in the container, the other on a bridge of the host.

    host                                      container
      cni0 10.88.0.1/16 ── veth1234abcd ═══════ eth0 10.88.0.7/16, default via 10.88.0.1

Addresses come from the plugin named in `ipam`; host-local runs in process, others by exec.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from sampan.linux import netlink
from sampan.network import Interface, Ip, Result, Route
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, INVALID_CONFIG, PluginError
from sampan.network.inside import inside
from sampan.network.plugins import masquerading, sysctl
from sampan.network.plugins.ipam import ipam_add, ipam_check, ipam_collect, ipam_delete
from sampan.network.plugins.iptables import iptables_is_nft
from sampan.network.plugins.ports import join_bridge, make_bridge, own_address
from sampan.network.plugins.removal import delete_pair
from sampan.network.results import from_json, to_json, version_of

__all__ = ["Options", "add", "check", "collect", "delete"]

_NAMES_TRIED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The configuration, checked."""

    network: str
    bridge: str = "cni0"
    gateway: bool = False
    default_gateway: bool = False
    force_address: bool = False
    masquerade: bool = False
    masquerade_backend: str = ""
    mtu: int = 0
    hairpin: bool = False
    promiscuous: bool = False
    vlan: int = 0
    vlan_trunk: tuple[tuple[int, int], ...] = ()
    preserve_default_vlan: bool = True
    mac: str = ""
    spoof_check: bool = False
    dad: bool = False
    isolated: bool = False
    disable_interface: bool = False
    layer3: bool = False

    @classmethod
    def parse(cls, call: Call) -> Options:
        """Return the options of a call.

        Raises:
          PluginError: they contradict each other.
        """
        conf = call.conf
        default_gateway = bool(conf.get("isDefaultGateway"))
        hairpin, promiscuous = bool(conf.get("hairpinMode")), bool(conf.get("promiscMode"))
        vlan = int(conf.get("vlan") or 0)
        if hairpin and promiscuous:
            raise _wrong("cannot set hairpin mode and promiscuous mode at the same time")
        if not 0 <= vlan <= 4094:
            raise _wrong(f"invalid VLAN ID {vlan} (must be between 0 and 4094)")
        backend = str(conf.get("ipMasqBackend") or "")
        if backend not in ("", "iptables", "nftables"):
            raise _wrong(f"unknown ipmasq backend {backend!r}")
        runtime = conf.get("runtimeConfig") or {}
        conventional = (conf.get("args") or {}).get("cni") or {}
        args = dict(pair.partition("=")[::2] for pair in call.args.split(";") if pair)
        return cls(
            network=str(conf.get("name", "")),
            bridge=str(conf.get("bridge") or "cni0"),
            gateway=bool(conf.get("isGateway")) or default_gateway,
            default_gateway=default_gateway,
            force_address=bool(conf.get("forceAddress")),
            masquerade=bool(conf.get("ipMasq")),
            masquerade_backend=backend or ("iptables" if iptables_is_nft() else "nftables"),
            mtu=int(conf.get("mtu") or 0),
            hairpin=hairpin,
            promiscuous=promiscuous,
            vlan=vlan,
            vlan_trunk=_trunk(conf.get("vlanTrunk") or ()),
            preserve_default_vlan=bool(conf.get("preserveDefaultVlan", True)),
            mac=str(runtime.get("mac") or conventional.get("mac") or args.get("MAC") or "")
            or str(conf.get("mac") or ""),
            spoof_check=bool(conf.get("macspoofchk")),
            dad=bool(conf.get("enabledad")),
            isolated=bool(conf.get("portIsolation")),
            disable_interface=bool(conf.get("disableContainerInterface")),
            layer3=bool((conf.get("ipam") or {}).get("type")),
        )


def add(call: Call) -> Mapping[str, Any]:
    """Connect the container."""
    options = Options.parse(call)
    if options.spoof_check:
        raise _wrong("macspoofchk is not built in: use the original plugin for it")
    netns = os.open(call.netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with netlink.Route() as host:
            return _add(call, options, host, netns)
    finally:
        os.close(netns)


def _add(call: Call, options: Options, host: netlink.Route, netns: int) -> Mapping[str, Any]:
    bridge = make_bridge(host, options)
    veth = _make_pair(call, options, host, netns, bridge.index)
    try:
        plan, mac = _address(call, options, host, netns, bridge)
        join_bridge(host, veth.index, options)
        bridge = host.link_at(bridge.index)
    except BaseException:
        with suppress(OSError):
            host.execute([netlink.delete_link(veth.index)])
        raise
    interfaces = (
        Interface(bridge.name, bridge.mac, mtu=bridge.mtu),
        Interface(veth.name, veth.mac, mtu=veth.mtu),
        Interface(call.ifname, mac, sandbox=call.netns, mtu=veth.mtu),
    )
    dns = plan.dns or from_json({"cniVersion": "1.0.0", "dns": call.conf.get("dns")}).dns
    result = replace(plan, interfaces=interfaces, dns=dns)
    return to_json(result, version_of(call.conf))


def _address(
    call: Call, options: Options, host: netlink.Route, netns: int, bridge: netlink.Link
) -> tuple[Result, str]:
    """Take addresses and use them; return what was planned, and the hardware address."""
    if not options.layer3:
        return Result(), inside(netns, lambda: _configure(call.ifname, options, Result()))
    taken = from_json(ipam_add(call), version_of(call.conf))
    try:
        if not taken.ips:
            raise PluginError(INTERNAL, "IPAM plugin returned missing IP config")  # noqa: TRY301
        plan = _plan(options, taken)
        mac = inside(netns, lambda: _configure(call.ifname, options, plan))
        _serve_gateway(host, options, bridge, plan)
        if options.masquerade:
            addresses = [one.address for one in plan.ips]
            network, backend = options.network, options.masquerade_backend
            masquerading.install(
                addresses, network, call.container_id, call.ifname, backend=backend
            )
    except BaseException as error:
        _give_back(call, error)
        raise
    return plan, mac


def delete(call: Call) -> None:
    """Disconnect the container; fine if there is nothing left of it.

    Its address is given back last, so that nobody gets it while the interface still has it.
    """
    options = Options.parse(call)
    try:
        if call.netns:
            delete_pair(call.netns, call.ifname)
        if options.masquerade:
            masquerading.remove(options.network, call.container_id, call.ifname)
    finally:
        if options.layer3:
            ipam_delete(call)


def check(call: Call) -> None:
    """Complain about what is not as `add` left it."""
    options = Options.parse(call)
    previous = from_json(call.conf.get("prevResult"), version_of(call.conf))
    if options.layer3:
        ipam_check(call)
    with netlink.Route() as host:
        _expect(host, options.bridge, "bridge")
        for one in previous.interfaces:
            if not one.sandbox and one.name.startswith("veth"):
                _expect(host, one.name, "veth")
    wanted = {
        one.ip
        for one in previous.ips
        if one.interface is None or previous.interfaces[one.interface].name == call.ifname
    }
    found, routes = inside(call.netns, lambda: _seen_inside(call.ifname))
    if absent := wanted - found:
        raise PluginError(INTERNAL, f"{call.ifname} has lost {', '.join(sorted(absent))}")
    for route in previous.routes:
        net = ipaddress.ip_network(route.dst, strict=False)
        if (str(net.network_address), net.prefixlen) not in routes:
            raise PluginError(INTERNAL, f"route to {route.dst} is missing in {call.netns}")
    if options.masquerade:
        addresses = [one.address for one in previous.ips]
        if masquerading.missing(addresses, options.network, call.container_id, call.ifname):
            raise PluginError(INTERNAL, f"{call.container_id} is not masqueraded any more")


def collect(call: Call) -> None:
    """Let the IPAM plugin and the rules forget attachments that are not valid."""
    options = Options.parse(call)
    if options.layer3:
        ipam_collect(call)
    if options.masquerade:
        valid = call.conf.get("cni.dev/valid-attachments") or ()
        pairs = {(str(one["containerID"]), str(one["ifname"])) for one in valid}
        masquerading.collect(options.network, pairs)


def _give_back(call: Call, error: BaseException) -> None:
    """Return the addresses after a failure, which wins over one of this."""
    try:
        ipam_delete(call)
    except (OSError, PluginError) as second:
        error.add_note(f"giving back the addresses failed, too: {second}")


def _make_pair(
    call: Call, options: Options, host: netlink.Route, netns: int, bridge: int
) -> netlink.Link:
    """Make the pair, our end on the bridge and up; return our end."""
    for turn in range(_NAMES_TRIED):
        name = f"veth{os.urandom(4).hex()}"
        try:
            host.execute(
                [
                    netlink.add_veth(
                        name,
                        call.ifname,
                        mtu=options.mtu or None,
                        peer_mac=options.mac or None,
                        peer_netns_fd=netns,
                        master=bridge,
                    )
                ]
            )
        except FileExistsError as error:
            if _has_link(netns, call.ifname):
                raise PluginError(
                    INTERNAL, f"container veth name {call.ifname!r} already exists"
                ) from error
            if turn == _NAMES_TRIED - 1:
                raise
        else:
            break
    link = host.link(name)
    # Before it is up: a container must not announce routes to the host (CVE-2020-10749).
    sysctl.write_if_there(f"net/ipv6/conf/{name}/accept_ra", "0")
    host.execute([netlink.set_up(link.index)])
    return link


def _has_link(netns: int, name: str) -> bool:
    def look() -> bool:
        with netlink.Route() as route:
            return any(link.name == name for link in route.links())

    return inside(netns, look)


def _plan(options: Options, taken: Result) -> Result:
    """Return addresses with their gateways, and routes with the default one where it is wanted."""
    ips = []
    routes = list(taken.routes)
    for one in taken.ips:
        gateway = one.gateway
        if options.gateway and not gateway:
            gateway = str(ipaddress.ip_interface(one.address).network.network_address + 1)
        ips.append(Ip(one.address, gateway, 2))
        default = "0.0.0.0/0" if one.family == 4 else "::/0"
        if options.default_gateway and not any(r.dst == default for r in routes):
            routes.append(Route(default, gateway))
    return Result((), tuple(ips), tuple(routes), taken.dns)


def _configure(ifname: str, options: Options, plan: Result) -> str:
    """Inside the container: addresses and routes; return the hardware address."""
    if plan.ips:
        sysctl.write_if_there(f"net/ipv4/conf/{ifname}/arp_notify", "1")
    families = {one.family for one in plan.ips}
    if 6 in families:
        sysctl.write_if_there(f"net/ipv6/conf/{ifname}/disable_ipv6", "0")
    if not options.dad:
        sysctl.write_if_there(f"net/ipv6/conf/{ifname}/accept_dad", "0")
    with netlink.Route() as route:
        link = route.link(ifname)
        changes = [] if options.disable_interface else [netlink.set_up(link.index)]
        for one in plan.ips:
            interface = ipaddress.ip_interface(one.address)
            changes.append(
                netlink.add_address(link.index, str(interface.ip), interface.network.prefixlen)
            )
        changes += (_route_change(link.index, one, plan) for one in plan.routes if link.index)
        route.execute(changes)
        return link.mac


def _route_change(index: int, route: Route, plan: Result) -> bytes:
    """Return what makes a route; one without next hop takes the gateway of its family."""
    net = ipaddress.ip_network(route.dst, strict=False)
    gateway = route.gw or next((i.gateway for i in plan.ips if i.family == net.version), "")
    if route.scope == 253:
        gateway = ""
    return netlink.add_route(
        index,
        str(net.network_address),
        net.prefixlen,
        gateway=gateway or None,
        mtu=route.mtu,
        advmss=route.advmss,
        priority=route.priority,
        table=route.table,
        scope=route.scope,
    )


def _serve_gateway(
    host: netlink.Route, options: Options, bridge: netlink.Link, plan: Result
) -> None:
    """Give the bridge the gateways' addresses, and let the host forward."""
    if not options.gateway:
        return
    for one in plan.ips:
        prefix = ipaddress.ip_interface(one.address).network.prefixlen
        own_address(host, bridge, one.gateway, prefix, force=options.force_address)
    families = {one.family for one in plan.ips}
    if 4 in families and sysctl.read("net/ipv4/ip_forward") != "1":
        sysctl.write("net/ipv4/ip_forward", "1")
    if 6 in families and sysctl.read("net/ipv6/conf/all/forwarding") != "1":
        sysctl.write("net/ipv6/conf/all/forwarding", "1")


def _expect(route: netlink.Route, name: str, kind: str) -> None:
    try:
        link = route.link(name)
    except OSError as error:
        raise PluginError(INTERNAL, f"interface {name} is missing") from error
    if link.kind != kind:
        raise PluginError(INTERNAL, f"interface {name} is no {kind}, but {link.kind}")


def _seen_inside(ifname: str) -> tuple[set[str], set[tuple[str, int]]]:
    with netlink.Route() as route:
        _expect(route, ifname, "veth")
        index = route.link(ifname).index
        addresses = {one.address for one in route.addresses(index)}
        return addresses, {(one.destination, one.prefix) for one in route.routes()}


def _trunk(raw: object) -> tuple[tuple[int, int], ...]:
    if not isinstance(raw, (list, tuple)):
        raise _wrong("vlanTrunk is no list")
    found = []
    for one in raw:
        if one.get("id") is not None:
            found.append((int(one["id"]), int(one["id"])))
        else:
            found.append((int(one["minID"]), int(one["maxID"])))
    for first, last in found:
        if not 0 < first <= last <= 4094:
            raise _wrong(f"vlanTrunk {first}-{last}: IDs lie between 1 and 4094")
    return tuple(found)


def _wrong(message: str) -> PluginError:
    return PluginError(INVALID_CONFIG, message)
