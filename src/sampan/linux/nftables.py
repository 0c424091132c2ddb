"""nf_tables by raw netlink: tables, chains and rules in atomic batches.

    with Nftables() as nft:
        generation = nft.generation()
        ... nft.rules(IPV4, "nat", "POSTROUTING") ...
        nft.commit([add_table(IPV4, "nat"), ...], generation)     # all of it or nothing

A rule is a list of expressions, each made by a function here. Those that iptables-nft leaves to
xtables (comments, MASQUERADE, ...) are `match` and `target`, with the kernel's structs as bytes.

Source: linux/netfilter/nf_tables.h, nfnetlink.h, nf_tables_compat.h.
"""

from __future__ import annotations

import _socket
import struct

from sampan.linux.nlsocket import (
    APPEND,
    CREATE,
    NESTED,
    REQUEST,
    NetlinkSocket,
    attribute,
    attributes,
    attributes_list,
    error_of,
    message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "ACCEPT",
    "DROP",
    "GOTO",
    "INET",
    "IPV4",
    "IPV6",
    "JUMP",
    "RETURN",
    "Expression",
    "Nftables",
    "Rule",
    "add_chain",
    "add_rule",
    "add_table",
    "bitwise",
    "compare",
    "counter",
    "delete_chain",
    "delete_rule",
    "delete_table",
    "fib_daddr_type",
    "flush_chain",
    "immediate",
    "masquerade",
    "match",
    "meta",
    "nat_to",
    "payload",
    "target",
    "verdict",
]

INET, IPV4, IPV6 = 1, 2, 10
DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN = 0, 2, 3, 4, 5
_NEWRULE, _GETRULE, _DELRULE, _GETGEN = 6, 7, 8, 16
_VALUE, _VERDICT = 1, 2
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER_BYTES = 8 << 20

_ABSENT = (2, 95, 97)
"""ENOENT; EOPNOTSUPP and EAFNOSUPPORT where the kernel lacks a family, such as IPv6."""

Expression = bytes
"""One element of a rule's list of expressions."""


class Rule:
    """A rule as the kernel has it; taken apart only where somebody looks."""

    __slots__ = ("_found", "raw")

    def __init__(self, body: bytes) -> None:
        self.raw = body
        """For a quick search by bytes."""
        self._found: dict[int, bytes] | None = None

    def _part(self, kind: int) -> bytes:
        if self._found is None:
            self._found = attributes(self.raw[4:])
        return self._found.get(kind, b"")

    @property
    def table(self) -> str:
        """Its table."""
        return _text(self._part(1))

    @property
    def chain(self) -> str:
        """Its chain."""
        return _text(self._part(2))

    @property
    def handle(self) -> int:
        """Its number in the table."""
        return int.from_bytes(self._part(3), "big")

    @property
    def userdata(self) -> bytes:
        """What programs attach, such as a comment."""
        return self._part(7)

    def expressions(self) -> Iterator[tuple[str, dict[int, bytes]]]:
        """Yield name and attributes of each expression, in order."""
        for _, element in attributes_list(self._part(4)):
            parts = attributes(element)
            yield _text(parts[1]), attributes(parts.get(2, b""))

    def jumps_to(self) -> str:
        """Return the chain that it jumps or goes to; empty for none."""
        for name, data in self.expressions():
            if name == "immediate":
                said = attributes(attributes(data.get(2, b"")).get(_VERDICT, b""))
                if 2 in said:
                    return _text(said[2])
        return ""


class Nftables(NetlinkSocket):
    """A socket to nf_tables of the network namespace we are in when it is opened."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)
        # Each message of a batch is answered by one of its own: hundreds at once.
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            self._socket.setsockopt(_socket.SOL_SOCKET, option, _BUFFER_BYTES)

    def generation(self) -> int:
        """Return the number of the ruleset's present state."""
        answer = self.ask(_kind(_GETGEN), _head(0))
        return int.from_bytes(attributes(answer[4:])[1], "big")

    def rules(self, family: int, table: str, chain: str = "") -> list[Rule]:
        """Return the rules of a chain, or of all chains of a table; empty if there is none."""
        body = _head(family) + _string(1, table)
        if chain:
            body += _string(2, chain)
        try:
            return [Rule(one) for one in self.dump(_kind(_GETRULE), body)]
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise

    def has_chain(self, family: int, table: str, chain: str) -> bool:
        """Return whether there is such a chain."""
        try:
            self.ask(_kind(_GETCHAIN), _head(family) + _string(1, table) + _string(3, chain))
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
        return True

    def commit(self, changes: Sequence[bytes], generation: int | None = None) -> None:
        """Carry out all changes or none.

        Args:
          changes: In order.
          generation: Only if nobody has changed the ruleset since.

        Raises:
          OSError: ERESTART (85), the ruleset has changed: read and build again; else of the first
            change that failed.
        """
        if not changes:
            return
        first = self._send(_batch(changes, generation))
        last = first + len(changes) + 1
        failed: OSError | None = None
        waiting = len(changes)
        while waiting > 0:
            for kind, sequence, body in self._receive():
                if kind != 2 or not first <= sequence <= last:
                    continue
                error = error_of(body, sequence - first - 1)
                failed = failed or error
                # The batch itself is refused: nothing else will be answered.
                waiting = 0 if sequence in (first, last) and error else waiting - 1
        if failed is not None:
            raise failed


def add_table(family: int, name: str) -> bytes:
    """Make a table; fine if it is there."""
    return message(_kind(_NEWTABLE), CREATE, _head(family) + _string(1, name))


def delete_table(family: int, name: str) -> bytes:
    """Delete a table and all that is in it."""
    return message(_kind(_DELTABLE), 0, _head(family) + _string(1, name))


def add_chain(
    family: int, table: str, name: str, *, kind: str = "", hook: int = 0, priority: int = 0
) -> bytes:
    """Make a chain; fine if it is there. With a `kind` (nat, filter) it hangs on a hook."""
    body = _head(family) + _string(1, table) + _string(3, name)
    if kind:
        where = _u32(1, hook) + attribute(2, struct.pack(">i", priority))
        body += attribute(4 | NESTED, where) + _u32(5, ACCEPT) + _string(7, kind)
    return message(_kind(_NEWCHAIN), CREATE, body)


def flush_chain(family: int, table: str, name: str) -> bytes:
    """Delete all rules of a chain."""
    return message(_kind(_DELRULE), 0, _head(family) + _string(1, table) + _string(2, name))


def delete_chain(family: int, table: str, name: str) -> bytes:
    """Delete an empty chain that nobody jumps to."""
    return message(_kind(_DELCHAIN), 0, _head(family) + _string(1, table) + _string(3, name))


def add_rule(
    family: int,
    table: str,
    chain: str,
    expressions: Iterable[Expression],
    *,
    protocol: int = 0,
    first: bool = False,
    comment: str = "",
) -> bytes:
    """Add a rule as the last of a chain, or the first.

    Args:
      family: Of the table.
      table: Its name.
      chain: Its name.
      expressions: In order.
      protocol: What `-p` said, for matches of xtables that insist on it.
      first: Put it before all others.
      comment: As nft shows it, up to 126 bytes.
    """
    body = _head(family) + _string(1, table) + _string(2, chain)
    body += attribute(4 | NESTED, b"".join(expressions))
    if protocol:
        body += attribute(5 | NESTED, _u32(1, protocol) + _u32(2, 0))
    if comment:
        text = comment.encode()[:126] + b"\0"
        body += attribute(7, bytes([0, len(text)]) + text)
    return message(_kind(_NEWRULE), CREATE if first else CREATE | APPEND, body)


def delete_rule(family: int, rule: Rule) -> bytes:
    """Delete a rule by its handle."""
    body = _head(family) + _string(1, rule.table) + _string(2, rule.chain)
    return message(_kind(_DELRULE), 0, body + attribute(3, struct.pack(">Q", rule.handle)))


def payload(base: str, offset: int, length: int, *, register: int = 1) -> Expression:
    """Load bytes of the packet; `base` is `network` or `transport`."""
    data = _u32(1, register) + _u32(2, {"network": 1, "transport": 2}[base])
    return _expression("payload", data + _u32(3, offset) + _u32(4, length))


def meta(key: str, *, register: int = 1) -> Expression:
    """Load a property of the packet."""
    number = {"mark": 3, "iifname": 6, "oifname": 7, "nfproto": 15, "l4proto": 16}[key]
    return _expression("meta", _u32(1, register) + _u32(2, number))


def bitwise(mask: bytes, xor: bytes | None = None, *, register: int = 1) -> Expression:
    """Replace a register by (register & mask) ^ xor."""
    data = _u32(1, register) + _u32(2, register) + _u32(3, len(mask))
    data += attribute(4 | NESTED, attribute(_VALUE, mask))
    data += attribute(5 | NESTED, attribute(_VALUE, xor or bytes(len(mask))))
    return _expression("bitwise", data)


def compare(value: bytes, *, negate: bool = False, register: int = 1) -> Expression:
    """Go on only if the register is `value`, or is not."""
    data = _u32(1, register) + _u32(2, int(negate))
    return _expression("cmp", data + attribute(3 | NESTED, attribute(_VALUE, value)))


def counter() -> Expression:
    """Count packets and bytes, as each rule of iptables does."""
    return _expression("counter", attribute(1, bytes(8)) + attribute(2, bytes(8)))


def immediate(value: bytes, *, register: int = 1) -> Expression:
    """Load a constant."""
    return _expression("immediate", _u32(1, register) + attribute(2 | NESTED, attribute(1, value)))


def verdict(code: int = JUMP, chain: str = "") -> Expression:
    """End with a verdict, or jump to a chain."""
    said = attribute(1, struct.pack(">i", code)) + (_string(2, chain) if chain else b"")
    data = attribute(_VERDICT | NESTED, said)
    return _expression("immediate", _u32(1, 0) + attribute(2 | NESTED, data))


def match(name: str, revision: int, info: bytes) -> Expression:
    """Let a match of xtables decide; `info` is its struct."""
    return _expression("match", _string(1, name) + _u32(2, revision) + attribute(3, _align(info)))


def target(name: str, revision: int, info: bytes) -> Expression:
    """End with a target of xtables."""
    return _expression("target", _string(1, name) + _u32(2, revision) + attribute(3, _align(info)))


def fib_daddr_type(*, register: int = 1) -> Expression:
    """Load the type of the destination: 1 unicast, 2 local, 3 broadcast, 5 multicast."""
    return _expression("fib", _u32(1, register) + _u32(2, 3) + _u32(3, 2))


def masquerade() -> Expression:
    """Replace the source by the address of the way out."""
    return _expression("masq", b"")


def nat_to(family: int, *, address: int = 0, port: int = 0) -> Expression:
    """Replace the destination by what stands in the registers `address` and `port`."""
    data = _u32(1, 1) + _u32(2, family)
    data += _u32(3, address) if address else b""
    data += _u32(5, port) if port else b""
    return _expression("nat", data)


def _batch(changes: Sequence[bytes], generation: int | None) -> list[bytes]:
    head = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    begin = head
    if generation is not None:
        begin += _u32(1, generation)
    return [_bare(_BATCH_BEGIN, begin), *changes, _bare(_BATCH_END, head)]


def _bare(kind: int, body: bytes) -> bytes:
    """Return a message without a wish to have it acknowledged."""
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST, 0, 0) + body


def _kind(number: int) -> int:
    return _SUBSYSTEM << 8 | number


def _head(family: int) -> bytes:
    return struct.pack(">BBH", family, 0, 0)


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _align(info: bytes) -> bytes:
    return info + bytes(-len(info) % 8)


def _expression(name: str, data: bytes) -> Expression:
    inner = _string(1, name) + (attribute(2 | NESTED, data) if data else b"")
    return attribute(1 | NESTED, inner)
