"""Rules in the shape of iptables: the same tables, chains, matches, comments; nothing is run.

iptables-nft keeps its rules in nf_tables; what is written here is what it would write, so that
`iptables-save` shows the same lines, and `iptables -D` of the original plugins finds them. Where
the host's iptables is the legacy one, or there is none, plugins keep tables of their own
(`ruleset.py`).

    with Tables(6) as ip6:
        ip6.change(lambda: [*ip6.base("nat", "POSTROUTING"), ...])     # atomic, again after races

Source: iptables-nft 1.8.9 as seen by `nft --debug=netlink list ruleset`; linux/netfilter/xt_*.h.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from sampan.linux import nftables as nft
from sampan.linux.nlsocket import attributes
from sampan.network.calls import SEARCH_PATH
from sampan.network.plugins.ruleset import atomically, borrow, give_back

__all__ = [
    "Tables",
    "address_of",
    "addrtype_local",
    "comment",
    "conntrack_established",
    "destination",
    "dnat",
    "dport",
    "dports",
    "interface",
    "iptables_is_legacy",
    "iptables_is_nft",
    "jump",
    "mark_is",
    "masquerade",
    "protocol",
    "set_mark",
    "source",
]

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
_NETWORK_HEADER: Final = struct.pack(">I", 1)
_BASE: Final = {
    ("nat", "PREROUTING"): (0, -100),
    ("nat", "INPUT"): (1, 100),
    ("nat", "OUTPUT"): (3, -100),
    ("nat", "POSTROUTING"): (4, 100),
    ("filter", "INPUT"): (1, 0),
    ("filter", "FORWARD"): (2, 0),
    ("filter", "OUTPUT"): (3, 0),
}


@functools.cache
def _iptables() -> str:
    """Return the name of the program behind `iptables`; empty if there is none."""
    found = shutil.which("iptables", path=SEARCH_PATH)
    return os.path.basename(os.path.realpath(found)) if found else ""


def iptables_is_nft() -> bool:
    """Return whether the host's iptables keeps its rules in nf_tables."""
    return "nft" in _iptables()


def iptables_is_legacy() -> bool:
    """Return whether the host's iptables keeps its rules elsewhere, where we cannot write."""
    return bool(_iptables()) and not iptables_is_nft()


class Tables:
    """The tables of one family, in the namespace we are in when it is opened."""

    def __init__(self, version: int) -> None:
        """Take the family of IP `version`, 4 or 6."""
        self.version = version
        self.family = nft.IPV4 if version == 4 else nft.IPV6
        self._socket = borrow()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        give_back(self._socket, error)

    def change(self, build: Callable[[], Sequence[bytes]]) -> None:
        """Carry out what `build` returns, all or nothing; it is called again after a race."""
        atomically(self._socket, build)

    def base(self, table: str, *chains: str) -> list[bytes]:
        """Return what makes those of iptables' own chains that are missing.

        Naming one that is there would be an update, which the kernel finishes after an RCU grace
        period only; the next rule with a match or target of xtables waits for that.
        """
        found = []
        for chain in chains:
            if not self.has(table, chain):
                hook, priority = _BASE[table, chain]
                found.append(nft.add_table(self.family, table))
                found.append(
                    nft.add_chain(
                        self.family, table, chain, kind=table, hook=hook, priority=priority
                    )
                )
        return found

    def chain(self, table: str, chain: str) -> list[bytes]:
        """Return what makes a chain, and what empties it if it is there."""
        if self.has(table, chain):
            return [nft.flush_chain(self.family, table, chain)]
        return [nft.add_chain(self.family, table, chain)]

    def add(
        self,
        table: str,
        chain: str,
        *expressions: Iterable[nft.Expression],
        proto: str = "",
        first: bool = False,
    ) -> bytes:
        """Return what adds a rule; `proto` must repeat what a `protocol` among it says."""
        return nft.add_rule(
            self.family,
            table,
            chain,
            [one for part in expressions for one in part],
            protocol=PROTOCOLS.get(proto, 0),
            first=first,
        )

    def rules(self, table: str, chain: str = "") -> list[nft.Rule]:
        """Return the rules of a chain, or of a table."""
        return self._socket.rules(self.family, table, chain)

    def has(self, table: str, chain: str) -> bool:
        """Return whether there is such a chain."""
        return self._socket.has_chain(self.family, table, chain)

    def jumps(self, table: str, chain: str, target: str) -> list[nft.Rule]:
        """Return the rules of a chain that jump to another."""
        name = target.encode() + b"\0"
        return [
            rule
            for rule in self.rules(table, chain)
            if name in rule.raw and rule.jumps_to() == target
        ]

    def delete(self, rule: nft.Rule) -> bytes:
        """Return what deletes a rule."""
        return nft.delete_rule(self.family, rule)

    def remove_chain(self, table: str, chain: str, parents: Sequence[str]) -> list[bytes]:
        """Return what deletes the jumps to a chain from `parents`, its rules, and itself."""
        found = [
            self.delete(rule) for parent in parents for rule in self.jumps(table, parent, chain)
        ]
        if self.has(table, chain):
            found.append(nft.flush_chain(self.family, table, chain))
            found.append(nft.delete_chain(self.family, table, chain))
        return found


def source(net: str, *, negate: bool = False) -> Iterator[nft.Expression]:
    """Yield `-s net`."""
    return _address(net, negate, (12, 8))


def destination(net: str, *, negate: bool = False) -> Iterator[nft.Expression]:
    """Yield `-d net`."""
    return _address(net, negate, (16, 24))


def _address(net: str, negate: bool, offsets: tuple[int, int]) -> Iterator[nft.Expression]:
    parsed = ipaddress.ip_network(net, strict=False)
    raw = parsed.network_address.packed
    offset = offsets[parsed.version == 6]
    whole, bits = divmod(parsed.prefixlen, 8)
    if parsed.prefixlen == 0:
        return
    if bits == 0:
        yield nft.payload("network", offset, whole)
        yield nft.compare(raw[:whole], negate=negate)
    else:
        yield nft.payload("network", offset, len(raw))
        yield nft.bitwise(parsed.netmask.packed)
        yield nft.compare(raw, negate=negate)


def interface(way: str, name: str, *, negate: bool = False) -> Iterator[nft.Expression]:
    """Yield `-i name` or `-o name`; `way` is `in` or `out`."""
    yield nft.meta("iifname" if way == "in" else "oifname")
    yield nft.compare(name.encode() + b"\0", negate=negate)


def address_of(rule: nft.Rule) -> bytes:
    """Return the whole address that a rule compares source or destination with; empty for none."""
    loaded = False
    for kind, data in rule.expressions():
        if kind == "payload":
            loaded = (data.get(2), data.get(4)) in (
                (_NETWORK_HEADER, struct.pack(">I", 4)),
                (_NETWORK_HEADER, struct.pack(">I", 16)),
            )
        elif kind == "cmp" and loaded:
            return attributes(data.get(3, b"")).get(1, b"")
        elif kind != "bitwise":
            loaded = False
    return b""


def protocol(name: str) -> Iterator[nft.Expression]:
    """Yield `-p name`."""
    yield nft.meta("l4proto")
    yield nft.compare(bytes([PROTOCOLS[name]]))


def dport(port: int) -> Iterator[nft.Expression]:
    """Yield `--dport port`, after `-p`."""
    yield nft.payload("transport", 2, 2)
    yield nft.compare(struct.pack(">H", port))


def dports(ports: Sequence[int]) -> Iterator[nft.Expression]:
    """Yield `-m multiport --dports ...`; at most 15."""
    slots = [*ports, *[0] * (15 - len(ports))]
    yield nft.match("multiport", 1, struct.pack("=BB15H15sB", 1, len(ports), *slots, bytes(15), 0))


def comment(text: str) -> Iterator[nft.Expression]:
    """Yield `-m comment --comment text`."""
    yield nft.match("comment", 0, text.encode()[:255].ljust(256, b"\0"))


def addrtype_local() -> Iterator[nft.Expression]:
    """Yield `-m addrtype --dst-type LOCAL`."""
    yield nft.match("addrtype", 1, struct.pack("=HHI", 0, 1 << 2, 0))


def conntrack_established() -> Iterator[nft.Expression]:
    """Yield `-m conntrack --ctstate RELATED,ESTABLISHED`."""
    # xt_conntrack_mtinfo3: eight addresses, two times, five ports, then the flags.
    info = bytes(128 + 8 + 10) + struct.pack("=HHHH", 1, 0, 6, 0) + bytes(8)
    yield nft.match("conntrack", 3, info.ljust(164, b"\0"))


def mark_is(mark: int) -> Iterator[nft.Expression]:
    """Yield `-m mark --mark mark/mark`."""
    raw = struct.pack("=I", mark)
    yield nft.meta("mark")
    yield nft.bitwise(raw)
    yield nft.compare(raw)


def jump(chain: str) -> Iterator[nft.Expression]:
    """Yield `-j chain`, where ACCEPT, DROP and RETURN are verdicts."""
    code = {"ACCEPT": nft.ACCEPT, "DROP": nft.DROP, "RETURN": nft.RETURN}.get(chain)
    yield nft.counter()
    yield nft.verdict(chain=chain) if code is None else nft.verdict(code)


def set_mark(mark: int) -> Iterator[nft.Expression]:
    """Yield `-j MARK --set-xmark mark/mark`."""
    yield nft.counter()
    yield nft.target("MARK", 2, struct.pack("=II", mark, mark))


def masquerade(version: int) -> Iterator[nft.Expression]:
    """Yield `-j MASQUERADE`."""
    yield nft.counter()
    info = struct.pack("=I", 1) + bytes(16) if version == 4 else bytes(40)
    yield nft.target("MASQUERADE", 0, info)


def dnat(address: str, port: int) -> Iterator[nft.Expression]:
    """Yield `-j DNAT --to-destination address:port`."""
    raw = ipaddress.ip_address(address).packed.ljust(16, b"\0")
    ports = struct.pack(">HHH", port, port, 0)
    yield nft.counter()
    # nf_nat_range2 with NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED.
    yield nft.target("DNAT", 2, (struct.pack("=I", 3) + raw + raw + ports).ljust(44, b"\0"))
