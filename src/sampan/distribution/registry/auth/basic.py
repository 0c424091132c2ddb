"""Basic: name and password with each request. Source: RFC 7617."""

from __future__ import annotations

import base64

from sampan.distribution.registry.auth import Ask, Challenge, Credentials, Flow, Grant
from sampan.errors import Unauthenticated

__all__ = ["authorize", "header"]


def authorize(challenge: Challenge, ask: Ask) -> Flow:
    """Grant name and password, if we have them; no exchange is needed."""
    yield from ()
    if not ask.credentials.username:
        raise Unauthenticated(
            f"{ask.registry} wants a name and a password: log in first, or see credHelpers"
        )
    return Grant(header(ask.credentials))


def header(credentials: Credentials) -> str:
    """Return the header's value."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"
