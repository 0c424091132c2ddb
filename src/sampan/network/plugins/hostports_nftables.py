"""Mapped ports as rules of nf_tables, as portmap of containernetworking-plugins 1.6 writes them.

table ip cni_hostport (and ip6)
  prerouting   → hostip_hostports, hostports
  output       → hostip_hostports; to local addresses: hostports
  masquerading   what a container sends to itself by way of the host
a rule's comment is the id of its container
"""

from __future__ import annotations

import ipaddress
import struct
from functools import partial
from typing import TYPE_CHECKING, Final

from sampan.linux import nftables as nft
from sampan.network.plugins import iptables as ipt
from sampan.network.plugins.ruleset import Ruleset

if TYPE_CHECKING:
    from sampan.network.plugins.portmap import Mapped, Plan

__all__ = ["install", "present", "remove"]

_TABLE: Final = "cni_hostport"
_BY_ADDRESS: Final = "hostip_hostports"
_ANY: Final = "hostports"
_MASQUERADING: Final = "masquerading"
_CHAINS: Final = (_ANY, _BY_ADDRESS, _MASQUERADING)
_RTN_LOCAL: Final = struct.pack("=I", 2)


def install(plan: Plan, address: str) -> None:
    """Map the ports to `address` (with prefix); what is there already is replaced."""
    version = ipaddress.ip_interface(address).version
    family = nft.IPV4 if version == 4 else nft.IPV6
    with Ruleset(family, _TABLE) as rules:

        def build() -> list[bytes]:
            changes = [] if rules.exists("prerouting", "output", *_CHAINS) else _skeleton(rules)
            changes += (nft.delete_rule(family, one) for one in _of(rules, plan.id))
            for one in plan.mapped:
                if one.concerns(version):
                    changes.append(_port(rules, family, plan, one, address))
            if plan.snat:
                changes += _masquerading(rules, plan, address)
            return changes

        rules.change(build)


def _skeleton(rules: Ruleset) -> list[bytes]:
    changes = [
        rules.table(),
        rules.chain(_ANY),
        rules.chain(_BY_ADDRESS),
        rules.chain("prerouting", kind="nat", hook=0, priority=-100),
        rules.chain("output", kind="nat", hook=3, priority=-100),
        rules.chain(_MASQUERADING, kind="nat", hook=4, priority=100),
        rules.flush("prerouting"),
        rules.flush("output"),
    ]
    local = (nft.fib_daddr_type(), nft.compare(_RTN_LOCAL))
    for chain in ("prerouting", "output"):
        changes.append(rules.add(chain, [nft.verdict(chain=_BY_ADDRESS)]))
        here = local if chain == "output" else ()
        changes.append(rules.add(chain, [*here, nft.verdict(chain=_ANY)]))
    return changes


def _port(rules: Ruleset, family: int, plan: Plan, one: Mapped, address: str) -> bytes:
    to = ipaddress.ip_interface(address).ip.packed
    parts = [
        *(ipt.destination(one.host_ip) if one.host_ip else ()),
        *ipt.protocol(one.protocol),
        *ipt.dport(one.host_port),
        nft.immediate(to, register=1),
        nft.immediate(struct.pack(">H", one.container_port), register=2),
        nft.nat_to(family, address=1, port=2),
    ]
    return rules.add(_BY_ADDRESS if one.host_ip else _ANY, parts, comment=plan.id)


def _masquerading(rules: Ruleset, plan: Plan, address: str) -> list[bytes]:
    interface = ipaddress.ip_interface(address)
    sources = [str(interface.ip)] + (["127.0.0.1"] if interface.version == 4 else [])
    return [
        rules.add(
            _MASQUERADING,
            (*ipt.source(one), *ipt.destination(str(interface.ip)), nft.masquerade()),
            comment=plan.id,
        )
        for one in sources
    ]


def _of(rules: Ruleset, id: str) -> list[nft.Rule]:
    return [
        one
        for chain in _CHAINS
        for one in rules.commented(chain, id[:126])
        if rules.comment(one) == id[:126]
    ]


def remove(id: str) -> None:
    """Unmap the ports of a container."""
    for family in (nft.IPV4, nft.IPV6):
        with Ruleset(family, _TABLE) as rules:
            if _of(rules, id):
                rules.change(partial(_removal, rules, family, id))


def _removal(rules: Ruleset, family: int, id: str) -> list[bytes]:
    return [nft.delete_rule(family, one) for one in _of(rules, id)]


def present(version: int, plan: Plan) -> bool:
    """Return whether a container's ports of a family are mapped."""
    with Ruleset(nft.IPV4 if version == 4 else nft.IPV6, _TABLE) as rules:
        mine = [one for one in _of(rules, plan.id) if one.chain != _MASQUERADING]
        return len(mine) >= sum(one.concerns(version) for one in plan.mapped)
