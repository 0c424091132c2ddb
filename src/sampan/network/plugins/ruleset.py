"""A table of nf_tables that belongs to plugins: its chains, and rules found again by comment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Final, Self

from sampan.concurrency.threads import Limit
from sampan.linux import nftables as nft

__all__ = ["Ruleset", "atomically", "close_later", "drain"]

_ERESTART: Final = 85
_TRIES: Final = 100
_LOCK: Final = threading.Lock()
"""Transactions of one process do not disturb each other; those of others make us try again."""


_CLOSING: Final = Limit("nftables-close", 1)
_CLOSED: Final[set[Future[None]]] = set()


def close_later(socket: nft.Nftables) -> None:
    """Close a socket that has deleted something: the kernel makes that wait for a grace period."""
    future = _CLOSING.submit(socket.close)
    _CLOSED.add(future)
    future.add_done_callback(_CLOSED.discard)


def drain() -> None:
    """Wait until all sockets are closed."""
    wait(tuple(_CLOSED))


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
        self._socket = nft.Nftables()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        close_later(self._socket)

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
