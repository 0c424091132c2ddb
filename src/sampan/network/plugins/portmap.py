"""portmap: ports of the host that lead into the container."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sampan.linux import netlink
from sampan.linux.conntrack import Conntrack
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, INVALID_CONFIG, PluginError
from sampan.network.plugins import hostports_iptables, hostports_nftables, sysctl
from sampan.network.plugins.iptables import PROTOCOLS, iptables_is_nft
from sampan.network.plugins.previous import container_ips, previous

__all__ = ["Mapped", "Plan", "add", "check", "collect", "delete"]

_MASQUERADE_BIT: Final = 13
_UDP: Final = 17


@dataclass(frozen=True, slots=True)
class Mapped:
    """One port."""

    host_port: int
    container_port: int
    protocol: str
    host_ip: str = ""
    """Empty for every address of the host."""
    unspecified: int = 0
    """4 or 6 where 0.0.0.0 or :: was asked for: every address of that family."""

    def concerns(self, version: int) -> bool:
        """Return whether it is about a family."""
        if self.unspecified:
            return self.unspecified == version
        return not self.host_ip or ipaddress.ip_address(self.host_ip).version == version


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for one container."""

    network: str
    id: str
    mapped: Sequence[Mapped]
    snat: bool
    mark: int
    external_mark_chain: str
    backend: str


def add(call: Call) -> Mapping[str, Any]:
    """Map the ports to the container's first address of each family."""
    result = previous(call)
    plan = _plan(call)
    if plan.mapped:
        done: set[int] = set()
        for one in container_ips(result):
            if one.family not in done:
                done.add(one.family)
                if plan.backend == "nftables":
                    hostports_nftables.install(plan, one.address)
                else:
                    hostports_iptables.install(plan, one.address)
                if one.family == 4 and plan.snat:
                    _let_localhost_in(one.ip)
        _forget_flows(plan, done)
    raw: Mapping[str, Any] = call.conf["prevResult"]
    return raw


def delete(call: Call) -> None:
    """Unmap the ports, of whatever shape the rules are; fine if there are none."""
    plan = _plan(call)
    hostports_iptables.remove(plan.network, plan.id)
    hostports_nftables.remove(plan.id)
    _forget_flows(plan, {4, 6})


def check(call: Call) -> None:
    """Complain if rules are missing."""
    plan = _plan(call)
    versions = {one.family for one in container_ips(previous(call))}
    for version in versions:
        if any(one.concerns(version) for one in plan.mapped):
            present = (
                hostports_nftables.present(version, plan)
                if plan.backend == "nftables"
                else hostports_iptables.present(version, plan)
            )
            if not present:
                raise PluginError(
                    INTERNAL, f"port mappings of {plan.id} are missing (IPv{version})"
                )


def collect(call: Call) -> None:
    """Unmap the ports of attachments that are not valid."""
    plan = _plan(call)
    valid = {str(one["containerID"]) for one in call.conf.get("cni.dev/valid-attachments") or ()}
    hostports_iptables.collect(plan.network, valid)


def _plan(call: Call) -> Plan:
    conf = call.conf
    backend = str(conf.get("backend") or "")
    if backend not in ("", "iptables", "nftables"):
        raise PluginError(INVALID_CONFIG, f"unknown backend {backend!r}")
    bit = conf.get("markMasqBit")
    chain = str(conf.get("externalSetMarkChain") or "")
    if bit is not None and chain:
        raise PluginError(INVALID_CONFIG, "cannot specify externalSetMarkChain and markMasqBit")
    bit = _MASQUERADE_BIT if bit is None else int(bit)
    if not 0 <= bit <= 31:
        raise PluginError(INVALID_CONFIG, "markMasqBit must be between 0 and 31")
    wished = (conf.get("runtimeConfig") or {}).get("portMappings") or ()
    snat = conf.get("snat")
    return Plan(
        network=str(conf.get("name", "")),
        id=call.container_id,
        mapped=tuple(_mapped(one) for one in wished),
        snat=snat is None or bool(snat),
        mark=1 << bit,
        external_mark_chain=chain,
        backend=backend or ("iptables" if iptables_is_nft() else "nftables"),
    )


def _mapped(raw: Mapping[str, Any]) -> Mapped:
    protocol = str(raw.get("protocol") or "").lower()
    if protocol not in PROTOCOLS:
        raise PluginError(INVALID_CONFIG, f"unknown protocol {raw.get('protocol')!r}")
    ports = int(raw.get("hostPort") or 0), int(raw.get("containerPort") or 0)
    for port in ports:
        if not 0 < port < 65536:
            raise PluginError(INVALID_CONFIG, f"invalid port number {port}")
    host_ip = str(raw.get("hostIP") or "")
    if not host_ip:
        return Mapped(*ports, protocol)
    try:
        address = ipaddress.ip_address(host_ip)
    except ValueError as error:
        raise PluginError(INVALID_CONFIG, f"invalid hostIP {host_ip!r}") from error
    if address.is_unspecified:
        return Mapped(*ports, protocol, unspecified=address.version)
    return Mapped(*ports, protocol, str(address))


def _let_localhost_in(address: str) -> None:
    """Allow packets from 127.0.0.1 out of the interface that leads to the container."""
    with netlink.Route() as route:
        try:
            name = route.link_at(route.route_to(address).index).name
        except OSError:
            return  # no route: the host itself cannot reach the container, nor can localhost
    sysctl.write(f"net/ipv4/conf/{name}/route_localnet", "1")


def _forget_flows(plan: Plan, versions: set[int]) -> None:
    """UDP flows that began before would go on to where the port led then, or to nowhere."""
    ports = [one for one in plan.mapped if one.protocol == "udp"]
    if not ports:
        return
    with Conntrack() as conntrack:
        for version in versions:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            for one in ports:
                if one.concerns(version):
                    with suppress(OSError):  # a kernel without connection tracking by netlink
                        conntrack.forget(family, _UDP, one.host_port)
