"""Mapped ports as rules of iptables, as the original portmap writes them.

nat PREROUTING, OUTPUT   -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
    CNI-HOSTPORT-DNAT    -p tcp -m multiport --dports 8080,8443 -j CNI-DN-<hash>
    CNI-DN-<hash>        -s <subnet>, -s 127.0.0.1: -j CNI-HOSTPORT-SETMARK
                         -p tcp --dport 8080 -j DNAT --to-destination <ip>:80
nat POSTROUTING          -j CNI-HOSTPORT-MASQ: what is marked is masqueraded
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from sampan.network.plugins import iptables as ipt

if TYPE_CHECKING:
    from sampan.network.plugins.portmap import Mapped, Plan

__all__ = ["chain_name", "collect", "install", "present", "remove"]

_DNAT: Final = "CNI-HOSTPORT-DNAT"
_SETMARK: Final = "CNI-HOSTPORT-SETMARK"
_MASQ: Final = "CNI-HOSTPORT-MASQ"
_AT_ONCE: Final = 15
"""Ports that one multiport match can hold."""


def chain_name(network: str, id: str) -> str:
    """Return the name of the chain of a container on a network."""
    return "CNI-DN-" + hashlib.sha512(f"{network}{id}".encode()).hexdigest()[:21]


def install(plan: Plan, address: str) -> None:
    """Map the ports to `address` (with prefix); what is there already is replaced."""
    version = ipaddress.ip_interface(address).version
    with ipt.Tables(version) as tables:
        tables.change(lambda: _build(tables, plan, address))


def _build(tables: ipt.Tables, plan: Plan, address: str) -> list[bytes]:
    chain = chain_name(plan.network, plan.id)
    entry = ["PREROUTING", "OUTPUT"]
    changes = tables.base("nat", *entry, *(["POSTROUTING"] if plan.snat else []))
    if plan.snat:
        changes += _marking(tables, plan)
    if not tables.has("nat", _DNAT):
        changes += tables.chain("nat", _DNAT)
    for parent in entry:
        if not tables.jumps("nat", parent, _DNAT):
            changes.append(tables.add("nat", parent, ipt.addrtype_local(), ipt.jump(_DNAT)))
    changes += [tables.delete(one) for one in tables.jumps("nat", _DNAT, chain)]
    changes += tables.chain("nat", chain)
    changes += _entries(tables, plan, chain)
    for one in plan.mapped:
        if one.concerns(tables.version):
            changes += _port(tables, plan, chain, one, address)
    return changes


def _marking(tables: ipt.Tables, plan: Plan) -> list[bytes]:
    """Return what makes the chains by which connections are masqueraded."""
    changes: list[bytes] = []
    if not plan.external_mark_chain and not tables.has("nat", _SETMARK):
        changes += tables.chain("nat", _SETMARK)
        said = ipt.comment("CNI portfwd masquerade mark")
        changes.append(tables.add("nat", _SETMARK, said, ipt.set_mark(plan.mark)))
    if not tables.has("nat", _MASQ):
        changes += tables.chain("nat", _MASQ)
        changes.append(
            tables.add("nat", _MASQ, ipt.mark_is(plan.mark), ipt.masquerade(tables.version))
        )
    if not tables.jumps("nat", "POSTROUTING", _MASQ):
        said = ipt.comment("CNI portfwd requiring masquerade")
        changes.append(tables.add("nat", "POSTROUTING", said, ipt.jump(_MASQ), first=True))
    return changes


def _entries(tables: ipt.Tables, plan: Plan, chain: str) -> list[bytes]:
    changes: list[bytes] = []
    said = f'dnat name: "{plan.network}" id: "{plan.id}"'
    for protocol in ipt.PROTOCOLS:
        ports = list(
            dict.fromkeys(one.host_port for one in plan.mapped if one.protocol == protocol)
        )
        changes += (
            tables.add(
                "nat",
                _DNAT,
                ipt.protocol(protocol),
                ipt.comment(said),
                ipt.dports(ports[at : at + _AT_ONCE]),
                ipt.jump(chain),
                proto=protocol,
            )
            for at in range(0, len(ports), _AT_ONCE)
        )
    return changes


def _port(tables: ipt.Tables, plan: Plan, chain: str, one: Mapped, address: str) -> list[bytes]:
    """Return the rules of one port: who must be masqueraded, and where it leads."""
    interface = ipaddress.ip_interface(address)
    sources = [str(interface.network)]
    if interface.version == 4:
        sources.append("127.0.0.1/32")
    host = list(ipt.destination(one.host_ip)) if one.host_ip else []

    def rule(*parts: Iterable[bytes]) -> bytes:
        port = ipt.dport(one.host_port)
        head, end = parts[:-1], parts[-1]
        proto = ipt.protocol(one.protocol)
        return tables.add("nat", chain, proto, *head, host, port, end, proto=one.protocol)

    mark = plan.external_mark_chain or _SETMARK
    marks = [rule(ipt.source(net), ipt.jump(mark)) for net in sources] if plan.snat else []
    return [*marks, rule(ipt.dnat(str(interface.ip), one.container_port))]


def remove(network: str, id: str) -> None:
    """Unmap the ports of a container; the shared chains stay."""
    _remove_chain(chain_name(network, id))


def _remove_chain(chain: str) -> None:
    for version in (4, 6):
        with ipt.Tables(version) as tables:
            if tables.has("nat", chain):
                tables.change(partial(tables.remove_chain, "nat", chain, [_DNAT]))


def present(version: int, plan: Plan) -> bool:
    """Return whether a container's ports of a family are mapped."""
    chain = chain_name(plan.network, plan.id)
    with ipt.Tables(version) as tables:
        wanted = sum(one.concerns(version) for one in plan.mapped)
        return bool(tables.jumps("nat", _DNAT, chain)) and (
            len(tables.rules("nat", chain)) >= wanted
        )


def collect(network: str, valid: Collection[str]) -> None:
    """Unmap the ports of all containers of a network but the valid ones."""
    head = f'dnat name: "{network}" id: "'.encode()
    keep = {chain_name(network, one) for one in valid}
    for version in (4, 6):
        with ipt.Tables(version) as tables:
            rules = tables.rules("nat", _DNAT)
        found = {one.jumps_to() for one in rules if head in one.raw}
        for chain in found - keep - {""}:
            _remove_chain(chain)
