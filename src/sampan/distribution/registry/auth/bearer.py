"""Bearer: a token from the realm that the registry names, for the scopes that we need.

    GET  realm?service=…&scope=…      with Basic credentials, or anonymously
    POST realm  grant_type=refresh_token | password      OAuth2: for identity tokens, and where the
                                                         realm has no GET

Source: distribution spec/auth/token.md and oauth.md.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from sampan.distribution.registry.auth import Answer, Ask, Challenge, Exchange, Flow, Grant, basic
from sampan.errors import PermissionDenied, Unauthenticated, Unavailable

__all__ = ["authorize"]

_CLIENT_ID: Final = "sampan"
_LIFE_MIN_S: Final = 60.0
"""A token without `expires_in` lasts this long, and so at least does any other."""
_LIFE_MAX_S: Final = 24 * 3600.0
_TOKEN_MAX: Final = 64 << 10


class _Reply(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


def authorize(challenge: Challenge, ask: Ask) -> Flow:
    """Fetch a token.

    Raises:
      Unauthenticated: the realm refuses us, or is not one to send credentials to.
      PermissionDenied: the realm says we may not.
      Unavailable: the realm is out of order.
    """
    realm = _realm(challenge, ask)
    fields = _fields(challenge, ask)
    credentials = ask.credentials
    if credentials.identity_token:
        answer = yield _post(
            realm,
            fields,
            ("grant_type", "refresh_token"),
            ("refresh_token", credentials.identity_token),
        )
        return _grant(answer, realm)
    answer = yield _get(realm, fields, ask)
    if answer.status in {404, 405} and credentials.username:
        answer = yield _post(
            realm,
            fields,
            ("grant_type", "password"),
            ("username", credentials.username),
            ("password", credentials.password),
        )
    return _grant(answer, realm)


def _realm(challenge: Challenge, ask: Ask) -> str:
    realm = challenge.parameters.get("realm", "")
    try:
        parts = urlsplit(realm)
        host, has_user = parts.hostname, "@" in parts.netloc
    except ValueError:
        host, has_user = None, False
    if not host or parts.scheme not in {"http", "https"} or has_user:
        raise Unauthenticated(f"{ask.registry} names a token server that is no URL: {realm[:99]!r}")
    if parts.scheme == "http" and not ask.registry.startswith("http://"):
        raise Unauthenticated(
            f"{ask.registry} sends us for a token to unencrypted {realm[:100]!r}: refused"
        )
    return realm


def _fields(challenge: Challenge, ask: Ask) -> list[tuple[str, str]]:
    scopes = set(ask.scopes)
    scopes.update(challenge.parameters.get("scope", "").split())
    fields = [("scope", scope) for scope in sorted(scopes)]
    if service := challenge.parameters.get("service"):
        fields.insert(0, ("service", service))
    return fields


def _get(realm: str, fields: list[tuple[str, str]], ask: Ask) -> Exchange:
    headers = {}
    if ask.credentials.username:
        fields = [*fields, ("account", ask.credentials.username)]
        headers["Authorization"] = basic.header(ask.credentials)
    parts = urlsplit(realm)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *fields])
    return Exchange("GET", urlunsplit(parts._replace(query=query, fragment="")), headers)


def _post(realm: str, fields: list[tuple[str, str]], *more: tuple[str, str]) -> Exchange:
    # OAuth2 has one scope field, in which the scopes stand side by side.
    scope = " ".join(value for name, value in fields if name == "scope")
    form = [(name, value) for name, value in fields if name != "scope"]
    form += [*more, ("client_id", _CLIENT_ID), ("access_type", "offline")]
    if scope:
        form.append(("scope", scope))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Exchange("POST", realm, headers, urlencode(form).encode("ascii"))


def _grant(answer: Answer, realm: str) -> Grant:
    host = urlsplit(realm).netloc
    if answer.status in {400, 401}:
        raise Unauthenticated(f"token server {host} refused our credentials ({answer.status})")
    if answer.status == 403:
        raise PermissionDenied(f"token server {host} says that we may not (403)")
    if answer.status != 200:
        raise Unavailable(f"token server {host} answered {answer.status}")
    try:
        reply = msgspec.json.decode(answer.body, type=_Reply)
    except (msgspec.MsgspecError, RecursionError) as err:
        raise Unavailable(f"token server {host} sent no token: {err}") from err
    token = reply.token or reply.access_token or ""
    if not token or len(token) > _TOKEN_MAX or not _is_header_safe(token):
        raise Unavailable(f"token server {host} sent no usable token")
    life = min(max(reply.expires_in or 0.0, _LIFE_MIN_S), _LIFE_MAX_S)
    return Grant(f"Bearer {token}", life)


def _is_header_safe(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
