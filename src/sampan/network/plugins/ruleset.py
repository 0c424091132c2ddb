"""A table of nf_tables that belongs to plugins: its chains, and rules found again by comment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from sampan.linux import nftables as nft

__all__ = ["Ruleset", "atomically", "borrow", "drain", "give_back"]

_ERESTART: Final = 85
_TRIES: Final = 100
_LOCK: Final = threading.Lock()
"""Transactions of one process do not disturb each other; those of others make us try again."""


_IDLE: Final[dict[tuple[int, int], list[nft.Nftables]]] = {}
"""Sockets for later use, by the identity of their network namespace."""


def borrow() -> nft.Nftables:
    """Return a socket of the network namespace we are in; give it back by `give_back`.

    They are kept, for closing one makes every later transaction wait until what was deleted is
    destroyed, which takes an RCU grace period.
    """
    idle = _IDLE.get(_here(), [])
    with suppress(IndexError):
        return idle.pop()
    return nft.Nftables()


def give_back(socket: nft.Nftables, error: BaseException | None) -> None:
    """Keep a socket for later; after an error it may hold answers that nobody read."""
    if error is not None:
        socket.close()
    else:
        _IDLE.setdefault(_here(), []).append(socket)


def drain() -> None:
    """Close the sockets that are kept."""
    while _IDLE:
        _, idle = _IDLE.popitem()
        for socket in idle:
            socket.close()


def _here() -> tuple[int, int]:
    status = os.stat("/proc/thread-self/ns/net")
    return status.st_dev, status.st_ino


def atomically(socket: nft.Nftables, build: Callable[[], Sequence[bytes]]) -> None:
    """Carry out what `build` returns, all or nothing; it is called again after a race."""
    with _LOCK:
        for turn in range(_TRIES):
            generation = socket.generation()
            try:
                socket.commit(build(), generation)
            except OSError as error:
                if error.errno != _ERESTART or turn == _TRIES - 1:
                    raise
            else:
                return


class Ruleset:
    """One table, in the namespace we are in when it is opened."""

    def __init__(self, family: int, table: str) -> None:
        self._family = family
        self._table = table
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

    def exists(self, *chains: str) -> bool:
        """Return whether all of these chains are there."""
        return all(self._socket.has_chain(self._family, self._table, one) for one in chains)

    def table(self) -> bytes:
        """Return what makes the table."""
        return nft.add_table(self._family, self._table)

    def chain(self, name: str, *, kind: str = "", hook: int = 0, priority: int = 0) -> bytes:
        """Return what makes a chain."""
        return nft.add_chain(
            self._family, self._table, name, kind=kind, hook=hook, priority=priority
        )

    def flush(self, chain: str) -> bytes:
        """Return what empties a chain."""
        return nft.flush_chain(self._family, self._table, chain)

    def add(self, chain: str, parts: Iterable[nft.Expression], *, comment: str = "") -> bytes:
        """Return what adds a rule."""
        return nft.add_rule(self._family, self._table, chain, parts, comment=comment)

    def commented(self, chain: str, prefix: str) -> list[nft.Rule]:
        """Return the rules of a chain whose comment begins so."""
        raw = prefix.encode()
        return [
            rule
            for rule in self._socket.rules(self._family, self._table, chain)
            if raw in rule.raw and self.comment(rule).startswith(prefix)
        ]

    @staticmethod
    def comment(rule: nft.Rule) -> str:
        """Return the comment of a rule, empty for none."""
        data = rule.userdata
        at = 0
        while at + 2 <= len(data):
            kind, length = data[at], data[at + 1]
            if kind == 0:
                return data[at + 2 : at + 2 + length].rstrip(b"\0").decode(errors="replace")
            at += 2 + length
        return ""

    @staticmethod
    def is_ip(version: int) -> tuple[nft.Expression, ...]:
        """Return what tells the families apart in a table of both."""
        return (nft.meta("nfproto"), nft.compare(bytes([nft.IPV4 if version == 4 else nft.IPV6])))
