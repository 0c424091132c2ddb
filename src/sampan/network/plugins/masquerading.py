"""ipMasq: what leaves a container's subnet bears an address of the host.

    iptables   nat POSTROUTING  -s <ip> -j CNI-<hash>
               CNI-<hash>       -d <subnet> -j ACCEPT;  ! -d <multicast> -j MASQUERADE
    nftables   inet cni_plugins_masquerade   postrouting → masq_checks: one rule for each address,
               its comment beginning with a hash of network, interface and container

Both are the shapes of the originals (containernetworking-plugins 1.1 and 1.7). Taking down looks
for both, by name alone, so that it works when the container's addresses are no longer known.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from sampan.linux import nftables as nft
from sampan.network.plugins import iptables as ipt
from sampan.network.plugins.ruleset import Ruleset

__all__ = ["chain_name", "collect", "install", "missing", "remove"]

_TABLE: Final = "cni_plugins_masquerade"
_CHECKS: Final = "masq_checks"
_MULTICAST: Final = {4: "224.0.0.0/4", 6: "ff00::/8"}


def chain_name(network: str, id: str) -> str:
    """Return the name of the chain of a container on a network."""
    return "CNI-" + hashlib.sha512(f"{network}{id}".encode()).hexdigest()[:24]


def install(addresses: Sequence[str], network: str, id: str, ifname: str, *, backend: str) -> None:
    """Masquerade what comes from `addresses` (with prefix); what is there already is replaced."""
    if backend == "nftables":
        _install_nftables(addresses, network, id, ifname)
        return
    for version in (4, 6):
        mine = [a for a in addresses if ipaddress.ip_interface(a).version == version]
        if mine:
            _install_iptables(version, mine, network, id)


def _install_iptables(version: int, addresses: Sequence[str], network: str, id: str) -> None:
    chain = chain_name(network, id)
    said = f'name: "{network}" id: "{id}"'
    with ipt.Tables(version) as tables:

        def build() -> list[bytes]:
            found = [*tables.base("nat", "POSTROUTING"), *tables.chain("nat", chain)]
            found += [tables.delete(one) for one in tables.jumps("nat", "POSTROUTING", chain)]
            for address in addresses:
                interface = ipaddress.ip_interface(address)
                own = ipt.destination(str(interface.network))
                found.append(tables.add("nat", chain, own, ipt.comment(said), ipt.jump("ACCEPT")))
                others = ipt.destination(_MULTICAST[version], negate=True)
                found.append(
                    tables.add("nat", chain, others, ipt.comment(said), ipt.masquerade(version))
                )
                found.append(
                    tables.add(
                        "nat",
                        "POSTROUTING",
                        ipt.source(str(interface.ip)),
                        ipt.comment(said),
                        ipt.jump(chain),
                    )
                )
            return found

        tables.change(build)


def _install_nftables(addresses: Sequence[str], network: str, id: str, ifname: str) -> None:
    said = _instance(network, ifname, id)
    with Ruleset(nft.INET, _TABLE) as rules:

        def build() -> list[bytes]:
            found = [] if rules.exists("postrouting", _CHECKS) else _skeleton(rules)
            found += [nft.delete_rule(nft.INET, one) for one in rules.commented(_CHECKS, said)]
            for address in addresses:
                interface = ipaddress.ip_interface(address)
                parts = (
                    *rules.is_ip(interface.version),
                    *ipt.source(str(interface.ip)),
                    *ipt.destination(str(interface.network), negate=True),
                    nft.masquerade(),
                )
                found.append(
                    rules.add(
                        _CHECKS, parts, comment=f"{said}, net: {network}, if: {ifname}, id: {id}"
                    )
                )
            return found

        rules.change(build)


def _skeleton(rules: Ruleset) -> list[bytes]:
    """Return what makes the table, its chains, and the rules that lead to the checks."""
    found = [
        rules.table(),
        rules.chain(_CHECKS),
        rules.chain("postrouting", kind="nat", hook=4, priority=100),
        rules.flush("postrouting"),
    ]
    for version, net in _MULTICAST.items():
        multicast = (*rules.is_ip(version), *ipt.destination(net), nft.verdict(nft.RETURN))
        found.append(rules.add("postrouting", multicast))
    return [*found, rules.add("postrouting", [nft.verdict(nft.GOTO, _CHECKS)])]


def remove(network: str, id: str, ifname: str) -> None:
    """Take the rules of a container down, of whatever shape; fine if there are none."""
    chain = chain_name(network, id)
    for version in (4, 6):
        with ipt.Tables(version) as tables:
            if tables.has("nat", chain):
                tables.change(partial(tables.remove_chain, "nat", chain, ["POSTROUTING"]))
    said = _instance(network, ifname, id)
    with Ruleset(nft.INET, _TABLE) as rules:
        if rules.commented(_CHECKS, said):
            rules.change(
                lambda: [nft.delete_rule(nft.INET, one) for one in rules.commented(_CHECKS, said)]
            )


def missing(addresses: Sequence[str], network: str, id: str, ifname: str) -> Sequence[str]:
    """Return those addresses that are not masqueraded."""
    chain = chain_name(network, id)
    with Ruleset(nft.INET, _TABLE) as rules:
        if rules.commented(_CHECKS, _instance(network, ifname, id)):
            return ()
    absent = []
    for address in addresses:
        with ipt.Tables(ipaddress.ip_interface(address).version) as tables:
            if not tables.jumps("nat", "POSTROUTING", chain):
                absent.append(address)
    return absent


def collect(network: str, valid: Collection[tuple[str, str]]) -> None:
    """Remove rules of a network's containers that are not valid; `valid` is of (id, ifname).

    Chains of iptables bear no readable owner but in comments, which are looked at.
    """
    keep = {_instance(network, ifname, owner) for owner, ifname in valid}
    prefix = _hash(network) + "-"
    with Ruleset(nft.INET, _TABLE) as rules:
        stale = [r for r in rules.commented(_CHECKS, prefix) if rules.comment(r)[:33] not in keep]
        if stale:
            rules.change(lambda: [nft.delete_rule(nft.INET, one) for one in stale])
    chains = {chain_name(network, owner) for owner, _ in valid}
    head = f'name: "{network}" id: "'.encode()
    for version in (4, 6):
        with ipt.Tables(version) as tables:
            found = {
                rule.jumps_to() for rule in tables.rules("nat", "POSTROUTING") if head in rule.raw
            }
            for chain in found - chains - {""}:
                tables.change(partial(tables.remove_chain, "nat", chain, ["POSTROUTING"]))


def _instance(network: str, ifname: str, id: str) -> str:
    return f"{_hash(network)}-{_hash(f'{ifname}:{id}')}"


def _hash(text: str) -> str:
    return hashlib.sha512(text.encode()).hexdigest()[:16]
