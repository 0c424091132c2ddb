"""Tokens: requests that wait for their client to come to the URL, once and soon.

A token is 128 random bits: whoever has it needs no other proof. It is gone when it is used, when
its time is over, or when the server stops; it is never written anywhere.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sampan.errors import ResourceExhausted

__all__ = ["Attach", "Exec", "PortForward", "Request", "Tokens"]


class Exec(NamedTuple):
    """Run a process in a container."""

    container_id: str
    command: Sequence[str]
    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool


class Attach(NamedTuple):
    """Join the first process of a container."""

    container_id: str
    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool


class PortForward(NamedTuple):
    """Connect to ports of a pod; no ports allows any."""

    pod_id: str
    ports: tuple[int, ...]


Request = Exec | Attach | PortForward


class Tokens:
    """At most `most` requests, each for `ttl_s` seconds, in order of age."""

    def __init__(
        self, ttl_s: float, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl_s = ttl_s
        self._most = most
        self._clock = clock
        self._waiting: dict[str, tuple[float, Request]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Request) -> str:
        """Return a token for `request`.

        Raises:
          ResourceExhausted: Too many wait already.
        """
        self._expire()
        if len(self._waiting) >= self._most:
            raise ResourceExhausted(
                f"streaming: {self._most} requests wait for their clients; "
                f"the oldest is dropped within {self._ttl_s:g} s"
            )
        token = secrets.token_urlsafe(16)
        self._waiting[token] = (self._clock() + self._ttl_s, request)
        return token

    def take(self, token: str) -> Request | None:
        """Return the request, once; None for a token that is unknown, used or too old."""
        self._expire()
        found = self._waiting.pop(token, None)
        return found[1] if found is not None else None

    def clear(self) -> None:
        """Drop all."""
        self._waiting.clear()

    def _expire(self) -> None:
        now = self._clock()
        for token, (until, _) in list(self._waiting.items()):
            if until > now:
                break
            del self._waiting[token]
