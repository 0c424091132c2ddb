"""Authentication to registries, as generators without I/O.

A registry answers 401 with challenges; each names a scheme. A scheme is a module here with

    def authorize(challenge, ask) -> Flow

whose generator yields the HTTP exchanges it needs, is sent each answer, and returns a `Grant`: the
value of the Authorization header, and how long it lasts. So a flow can be tested with literal
answers, and it cannot leak a password anywhere but into the exchange it yields.

        401 WWW-Authenticate          Exchange(GET realm)       Grant("Bearer …", 300 s)
    registry ──► parse_challenges ──► scheme ──► caller ──► scheme ──► caller, who caches it

Source: distribution spec/auth/{token,oauth,scope}.md; RFC 9110 section 11.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, TypeAlias

from sampan.distribution.registry.auth.challenge import Challenge, parse_challenges
from sampan.errors import Unauthenticated

__all__ = [
    "Answer",
    "Ask",
    "Challenge",
    "Credentials",
    "Exchange",
    "Flow",
    "Grant",
    "authorize",
    "parse_challenges",
]

_SCHEMES: Final = {"bearer": "bearer", "basic": "basic"}
"""Scheme to module; in order of preference, as a token is narrower than a password."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who we are to one registry. Policy; never shown in a log or message."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth2 refresh token, used instead of a password."""
    registry_token: str = field(default="", repr=False)
    """A bearer token to send as it is."""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)


@dataclass(frozen=True, slots=True)
class Ask:
    """What we want to be allowed, where, and as whom."""

    registry: str
    """Origin of the registry that challenged: `https://host:port`."""
    scopes: tuple[str, ...] = ()
    """`repository:<path>:pull,push`, sorted."""
    credentials: Credentials = Credentials()


@dataclass(frozen=True, slots=True)
class Exchange:
    """An HTTP request that a flow wants made; redirects are not followed with its headers."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: capped by the caller."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Grant:
    """A value for the Authorization header."""

    header: str = field(repr=False)
    seconds: float | None = None
    """For how long it is good; None is for as long as the registry takes it."""


Flow: TypeAlias = Generator[Exchange, Answer, Grant]


def authorize(challenges: Sequence[Challenge], ask: Ask) -> Flow:
    """Return the flow for the best challenge that we know.

    Raises:
      Unauthenticated: none of them is a scheme of ours.
    """
    if ask.credentials.registry_token:
        return _ready(Grant(f"Bearer {ask.credentials.registry_token}"))
    for scheme, module in _SCHEMES.items():
        for challenge in challenges:
            if challenge.scheme == scheme:
                flow: Flow = import_module(f"{__name__}.{module}").authorize(challenge, ask)
                return flow
    offered = ", ".join(challenge.scheme[:20] for challenge in challenges[:5]) or "nothing"
    raise Unauthenticated(f"{ask.registry} wants authentication by {offered}: not supported")


def _ready(grant: Grant) -> Flow:
    yield from ()
    return grant
