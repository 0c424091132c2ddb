"""Netlink: messages, attributes, and sockets that send many requests in one packet.

Families of messages live in modules of their own: `netlink` (links, addresses, routes), `traffic`
(queueing), `nftables`, `conntrack`.

Source: netlink(7).
"""

from __future__ import annotations

import _socket
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

__all__ = [
    "ACK",
    "APPEND",
    "CREATE",
    "DUMP",
    "EXCL",
    "NESTED",
    "REPLACE",
    "REQUEST",
    "NetlinkSocket",
    "attribute",
    "attributes",
    "attributes_list",
    "error_of",
    "message",
]

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
NESTED = 0x8000

_ERROR, _DONE = 2, 3
_SOL_NETLINK, _EXT_ACK, _CAP_ACK, _STRICT = 270, 11, 10, 12
_TIMEOUT_S = 10


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Return a request; its sequence number is filled in when it is sent."""
    padded = body + bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(padded), kind, flags | REQUEST | ACK, 0, 0) + padded


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and value of each attribute, in order."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by kind; of several of one kind the last."""
    return dict(attributes_list(data))


def error_of(body: bytes, number: int) -> OSError | None:
    """Return the error in an acknowledgement, if it is one: `body` starts with the flags."""
    flags, code = struct.unpack_from("=Hi", body)
    if code == 0:
        return None
    text = f"netlink: {os.strerror(-code)}"
    if flags & 0x200:  # NLM_F_ACK_TLVS
        said = attributes(body[6 + 16 :]).get(1, b"").rstrip(b"\0").decode(errors="replace")
        text += f" ({said})" if said else ""
    return OSError(-code, text, f"change {number}")


class NetlinkSocket:
    """A socket of the network namespace we are in when it is opened, wherever we go later."""

    def __init__(self, protocol: int) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(_TIMEOUT_S)
            # Strict: a dump is of what its header names, not of all there is.
            for option in (_EXT_ACK, _CAP_ACK, _STRICT):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    def execute(self, changes: Sequence[bytes]) -> None:
        """Carry changes out in order; all are tried, even after one has failed.

        Raises:
          OSError: Of the first that failed, with the kernel's own explanation where it gave one;
            its `filename` is the number of the change.
        """
        for error in self.attempt(changes):
            if error is not None:
                raise error

    def attempt(self, changes: Sequence[bytes]) -> list[OSError | None]:
        """Carry changes out in order and return for each how it failed, if it did."""
        if not changes:
            return []
        first = self._send(changes)
        outcomes: list[OSError | None] = [None] * len(changes)
        waiting = len(changes)
        while waiting:
            for kind, sequence, body in self._receive():
                if kind == _ERROR and first <= sequence < first + len(changes):
                    waiting -= 1
                    outcomes[sequence - first] = error_of(body, sequence - first)
        return outcomes

    def dump(self, kind: int, body: bytes, *, flags: int = DUMP) -> list[bytes]:
        """Ask for all there is, and return the bodies of the answers."""
        self._sequence += 1
        wanted = self._sequence
        head = struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, wanted, 0)
        self._socket.send(head + body)
        found: list[bytes] = []
        while True:
            for answer, sequence, content in self._receive():
                if sequence != wanted:
                    continue
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    error = error_of(content, 0)
                    if error is None:
                        return found
                    raise error
                found.append(content)

    def ask(self, kind: int, body: bytes) -> bytes:
        """Ask for one thing, and return the body of the answer.

        Raises:
          OSError: ENOENT or ENODEV, there is no such thing.
        """
        answers = self.dump(kind, body, flags=ACK)
        if not answers:
            raise OSError(5, "netlink: no answer")
        return answers[0]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, changes: Sequence[bytes]) -> int:
        """Send all in one packet and return the sequence number of the first."""
        first = self._sequence + 1
        packet = []
        for change in changes:
            self._sequence += 1
            packet.append(change[:8] + struct.pack("=I", self._sequence) + change[12:])
        self._socket.send(b"".join(packet))
        return first

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
            body = data[at + 16 : at + length]
            # An error without NLM_F_CAPPED repeats the whole request before its attributes.
            yield kind, sequence, struct.pack("=H", flags) + body if kind == _ERROR else body
            at += (length + 3) & ~3
