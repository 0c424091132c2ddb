"""One repository on one host: requests with authorization and retries.

    send ──401──► challenges ──► auth flow, its exchanges ──► Grant, cached ──► send again

Grants are cached for (origin, scopes), so that all requests of a pull share one token; while one is
fetched, the others wait for it. A 401 from a host that we were redirected to is not answered.

What is idempotent is tried up to `_ATTEMPTS` times, with a backoff that doubles and is jittered, on
broken connections and on 408, 429, 500, 502, 503, 504. A passed deadline is not tried again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sampan.distribution.registry.answers import refusal, show_warnings
from sampan.distribution.registry.auth import (
    Answer,
    Ask,
    Challenge,
    Exchange,
    Grant,
    authorize,
    parse_challenges,
)
from sampan.distribution.registry.credentials import CredentialSource
from sampan.distribution.registry.hosts import Host
from sampan.distribution.registry.transport import Body, Response, Transport, origin_of
from sampan.errors import Unauthenticated, Unavailable

__all__ = ["Authorizer", "Endpoint"]

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 5
_BACKOFF_S: Final = 0.1
_BACKOFF_MAX_S: Final = 10.0
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "DELETE"})
_TOKEN_ANSWER_MAX: Final = 1 << 20
_EARLY_S: Final = 10.0
"""A token is renewed this long before it ends."""


@dataclass(slots=True)
class _Cached:
    grant: Grant
    until: float | None


class Authorizer:
    """Grants for all registries of one client, fetched when challenged and kept while good."""

    def __init__(self, transport: Transport, source: CredentialSource) -> None:
        """Answer challenges with credentials from `source`."""
        self._transport = transport
        self._source = source
        self._grants: dict[tuple[str, str, frozenset[str]], _Cached] = {}
        self._locks: dict[tuple[str, str, frozenset[str]], asyncio.Lock] = {}

    def header(self, host: Host, path: str, scopes: frozenset[str]) -> str | None:
        """Return the Authorization header that we have, if we have one that is good."""
        cached = self._grants.get((host.origin, path, scopes))
        if cached is None or (cached.until is not None and _now() >= cached.until):
            return None
        return cached.grant.header

    async def challenged(
        self,
        host: Host,
        path: str,
        scopes: frozenset[str],
        challenges: list[Challenge],
        refused: str | None,
    ) -> str:
        """Return a header that answers `challenges`; `refused` is the one that was sent.

        Raises:
          Unauthenticated: we have nothing that would be accepted.
        """
        key = (host.origin, path, scopes)
        async with self._locks.setdefault(key, asyncio.Lock()):
            have = self.header(host, path, scopes)
            if have and have != refused:
                return have
            registry = host.netloc
            if host.netloc == "registry-1.docker.io":
                registry = "docker.io"
            credentials = await self._source.lookup(registry, path)
            ask = Ask(host.origin, tuple(sorted(scopes)), credentials)
            grant = await self._drive(host, challenges, ask)
            if grant.header == refused:
                raise Unauthenticated(f"{host.netloc} refuses our credentials for {path}")
            until = None if grant.seconds is None else _now() + max(grant.seconds - _EARLY_S, 1.0)
            self._grants[key] = _Cached(grant, until)
            return grant.header

    async def _drive(self, host: Host, challenges: list[Challenge], ask: Ask) -> Grant:
        flow = authorize(challenges, ask)
        try:
            exchange = next(flow)
            while True:
                exchange = flow.send(await self._exchange(host, exchange))
        except StopIteration as stop:
            grant: Grant = stop.value
            return grant

    async def _exchange(self, host: Host, exchange: Exchange) -> Answer:
        async with self._transport.request(
            host,
            exchange.method,
            exchange.url,
            headers=exchange.headers,
            body=exchange.body or None,
            follow=False,
        ) as response:
            return Answer(response.status, await response.read(_TOKEN_ANSWER_MAX))


class Endpoint:
    """A repository on a host."""

    def __init__(self, transport: Transport, authorizer: Authorizer, host: Host, path: str) -> None:
        """Talk about the repository `path` with `host`."""
        self.host: Final = host
        self.path: Final = path
        self._transport = transport
        self._authorizer = authorizer

    def url(self, rest: str) -> str:
        """Return the URL of something in the repository: `manifests/latest`."""
        query = ""
        if self.host.namespace:
            query = f"{'&' if '?' in rest else '?'}ns={self.host.namespace}"
        return f"{self.host.base}/{self.path}/{rest}{query}"

    @asynccontextmanager
    async def call(
        self,
        method: str,
        url: str,
        *,
        what: str,
        accept: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        push: bool = False,
        also_from: str = "",
        idempotent: bool | None = None,
    ) -> AsyncIterator[Response]:
        """Yield the answer, if its status is one of `accept`.

        Args:
          method: As in HTTP.
          url: From `url`, or a Location that the registry gave.
          what: For messages: `blob sha256:…`.
          accept: The statuses that the caller can handle.
          headers: Beside those that are always sent.
          body: Bytes or a stream.
          push: Ask for the right to write, too.
          also_from: Another repository to read from, for a mount.
          idempotent: Whether to try again; None is what the method says.

        Raises:
          SampanError: by status, with the registry's own words; or from the transport.
        """
        right = "pull,push" if push else "pull"
        scopes = {f"repository:{self.path}:{right}"} if self.path else set()
        if also_from:
            scopes.add(f"repository:{also_from}:pull")
        again = method in _IDEMPOTENT if idempotent is None else idempotent
        async with AsyncExitStack() as stack:
            for attempt in range(1, _ATTEMPTS + 1):
                last = not again or attempt == _ATTEMPTS
                try:
                    response = await self._authorized(
                        stack, method, url, frozenset(scopes), headers, body
                    )
                except Unavailable as err:
                    if last:
                        raise
                    log.debug("trying again: %s error=%s", what, err)
                    await asyncio.sleep(_backoff(attempt))
                    continue
                show_warnings(response, self.host.netloc)
                if response.status in accept:
                    yield response
                    return
                if last or response.status not in _TRANSIENT:
                    raise await refusal(response, what, self.host.netloc)
                log.debug("trying again: %s status=%d", what, response.status)
                pause = _retry_after(response) or _backoff(attempt)
                await stack.aclose()
                await asyncio.sleep(pause)

    async def _authorized(
        self,
        stack: AsyncExitStack,
        method: str,
        url: str,
        scopes: frozenset[str],
        headers: Mapping[str, str] | None,
        body: Body | None,
    ) -> Response:
        header = self._authorizer.header(self.host, self.path, scopes)
        for attempt in range(2):
            response = await stack.enter_async_context(
                self._transport.request(
                    self.host, method, url, headers=headers, authorization=header, body=body
                )
            )
            own = origin_of(response.url) == origin_of(self.host.origin)
            if response.status != 401 or not own or attempt or not response.challenges:
                break
            challenges = parse_challenges(response.challenges)
            await stack.aclose()
            header = await self._authorizer.challenged(
                self.host, self.path, scopes, challenges, header
            )
        return response


def _now() -> float:
    return asyncio.get_running_loop().time()


def _backoff(attempt: int) -> float:
    longest = min(_BACKOFF_S * float(1 << (attempt - 1)), _BACKOFF_MAX_S)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - only to spread the load


def _retry_after(response: Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        return None
    return min(float(text), _BACKOFF_MAX_S)
