"""HTTP with a deadline on each step, redirects under our rules, and no credentials to strangers.

    connect      the host's dial_timeout
    answer       `Deadlines.answer_s` until its headers are there
    progress     `Deadlines.progress_s` between two reads; a body as a whole may take its time

Redirects are followed for GET and HEAD only, at most five; never from https to http, never to a URL
that carries credentials. The Authorization header and the headers of hosts.toml go to the origin
they belong to, and are left out after a redirect to any other.

aiohttp was chosen by measurement (ADR on the HTTP client). No other module here imports it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from sampan import __version__
from sampan.concurrency import to_thread
from sampan.distribution.registry.hosts import Host
from sampan.distribution.registry.proxies import Proxies
from sampan.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)

__all__ = ["Body", "Deadlines", "Response", "Transport", "origin_of"]

_REDIRECTS_MAX: Final = 5
_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
_READ_BUFFER: Final = 1 << 20
_PER_HOST: Final = 16
_HTTP_PORTS: Final = {"http": 80, "https": 443}

Streamer: TypeAlias = Callable[[], AsyncIterator[bytes]]
Body: TypeAlias = bytes | Streamer
"""Bytes, or what makes a fresh stream of them for each attempt."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """In seconds."""

    answer_s: float = 30.0
    progress_s: float = 60.0


@dataclass(slots=True)
class Response:
    """Status and headers are there; the body is still on its way."""

    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    """All WWW-Authenticate lines."""
    url: str
    """Where it came from, after redirects."""
    warnings: tuple[str, ...] = ()
    _raw: aiohttp.ClientResponse = field(kw_only=True, repr=False)

    @property
    def media_type(self) -> str:
        """Content-Type without parameters, in lower case; empty if there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def length(self) -> int | None:
        """Content-Length, if there is a sane one."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes.

        Raises:
          Unavailable: the connection broke, or the body is shorter than was announced.
          DeadlineExceeded: nothing came for `progress_s`.
        """
        with _translated(self.url):
            while chunk := await self._raw.content.readany():
                yield chunk

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
          ResourceExhausted: it is larger than `limit` bytes.
        """
        if (self.length or 0) > limit:
            raise ResourceExhausted(
                f"{_place(self.url)} sends {self.length} bytes; {limit} is the most"
            )
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise ResourceExhausted(f"{_place(self.url)} sends more than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)


class Transport:
    """Connections to registries; open it with `async with`, share it between operations."""

    def __init__(
        self,
        proxies: Proxies,
        deadlines: Deadlines = Deadlines(),
        log: Callable[[str], None] | None = None,
    ) -> None:
        """Make a transport that holds no connection yet; `log` is told each exchange."""
        self._log = log
        self.deadlines: Final = deadlines
        self._proxies = proxies
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[object, ssl.SSLContext] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def request(
        self,
        host: Host,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        body: Body | None = None,
        follow: bool = True,
    ) -> AsyncIterator[Response]:
        """Send a request and yield the answer when its headers are there.

        `authorization` is sent to the origin of `host` alone. TLS settings of `host` hold for its
        own origin; any other is verified by the system's authorities.

        Raises:
          Unavailable: no connection, or it broke; trying again may help.
          DeadlineExceeded: a deadline passed.
          FailedPrecondition: the server's certificate is not trusted.
          PermissionDenied: a redirect that must not be followed.
        """
        async with AsyncExitStack() as stack:
            for _ in range(_REDIRECTS_MAX + 1):
                sent = _headers(host, url, headers, authorization)
                response = await self._send(stack, host, method, url, sent, body)
                target = response.headers.get("Location", "")
                if response.status not in _REDIRECT or not target or not follow:
                    yield response
                    return
                if method not in {"GET", "HEAD"}:
                    raise PermissionDenied(f"{_place(url)} redirects a {method}: refused")
                url = _redirected(url, target)
                await stack.aclose()
            raise PermissionDenied(f"{_place(url)}: more than {_REDIRECTS_MAX} redirects")

    async def _send(
        self,
        stack: AsyncExitStack,
        host: Host,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: Body | None,
    ) -> Response:
        own = origin_of(url) == origin_of(host.origin)
        context = await self._context(host if own else None) if url.startswith("https:") else True
        loop = asyncio.get_running_loop()
        try:
            with _translated(url):
                async with asyncio.timeout(
                    host.dial_timeout_s + self.deadlines.answer_s
                ) as deadline:

                    async def watched(
                        make: Callable[[], AsyncIterator[bytes]],
                    ) -> AsyncIterator[bytes]:
                        # The answer comes after the last byte sent: each byte moves its deadline.
                        async for chunk in make():
                            deadline.reschedule(loop.time() + self.deadlines.progress_s)
                            yield chunk
                        deadline.reschedule(loop.time() + self.deadlines.progress_s)

                    raw = await self._opened().request(
                        method,
                        URL(url, encoded=True),
                        headers=headers,
                        data=watched(body) if callable(body) else body,
                        allow_redirects=False,
                        proxy=self._proxies.for_url(url),
                        ssl=context,
                        timeout=aiohttp.ClientTimeout(
                            total=None,
                            sock_connect=host.dial_timeout_s,
                            sock_read=self.deadlines.progress_s,
                        ),
                    )
        except TimeoutError:
            raise DeadlineExceeded(f"{_place(url)} did not answer in time") from None
        stack.callback(raw.close)
        if self._log is not None:
            self._log(f"{method} {_place(url)}: {raw.status} {raw.reason}")
        return Response(
            raw.status,
            raw.headers,
            tuple(raw.headers.getall("WWW-Authenticate", ())),
            url,
            tuple(raw.headers.getall("Warning", ())),
            _raw=raw,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=_PER_HOST),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_BUFFER,
                headers={"User-Agent": f"sampan/{__version__}", "Accept-Encoding": "identity"},
                skip_auto_headers=("Content-Type",),
            )
        return self._session

    async def _context(self, host: Host | None) -> ssl.SSLContext:
        key = (host.ca, host.client, host.skip_verify) if host else None
        if key not in self._contexts:
            self._contexts[key] = await to_thread(_ssl_context, host)
        return self._contexts[key]


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL, so that two spellings compare equal.

    Raises:
      ValueError: no URL with a host.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"no host in {url[:100]!r}")
    return parts.scheme, parts.hostname, parts.port or _HTTP_PORTS.get(parts.scheme, 0)


def _headers(
    host: Host, url: str, headers: Mapping[str, str] | None, authorization: str | None
) -> list[tuple[str, str]]:
    sent = list((headers or {}).items())
    if origin_of(url) == origin_of(host.origin):
        sent += [(name, value) for name, values in host.header.items() for value in values]
        if authorization:
            sent.append(("Authorization", authorization))
    return sent


def _redirected(url: str, target: str) -> str:
    try:
        target = urljoin(url, target)
        parts = urlsplit(target)
        scheme, host, _ = origin_of(target)
    except ValueError:
        raise PermissionDenied(f"{_place(url)} redirects to no URL: refused") from None
    if "@" in parts.netloc:
        raise PermissionDenied(
            f"{_place(url)} redirects to {host} with credentials in the URL: refused"
        )
    if scheme not in {"http", "https"} or (url.startswith("https:") and scheme != "https"):
        raise PermissionDenied(f"{_place(url)} redirects to {scheme}://{host}: refused")
    return target


def _place(url: str) -> str:
    """Return the URL for a message: without its query, which may be a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:300]


def _ssl_context(host: Host | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if host is None:
        return context
    if host.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    file: Path | None = None
    try:
        for file in host.ca:
            context.load_verify_locations(cafile=file)
        for file, key in host.client:
            context.load_cert_chain(file, key)
    except (OSError, ssl.SSLError) as err:
        raise FailedPrecondition(
            f"certificate {file} for {host.netloc} cannot be used: {err}"
        ) from err
    return context


class _translated:  # noqa: N801 - reads as a phrase, like contextlib's
    """Turns aiohttp's errors into ours; a class, since a generator would cost on every chunk."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        place = _place(self._url)
        match error:
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                raise FailedPrecondition(
                    f"{place}: TLS failed: {_reason(error)}; for a private authority put its "
                    "certificate into certs.d/<host>/ca.crt"
                ) from error
            case aiohttp.ServerTimeoutError():
                raise DeadlineExceeded(
                    f"{place} stopped sending, or could not be reached in time"
                ) from error
            case aiohttp.ClientConnectorError():
                number = error.os_error.errno or 0
                reason = os.strerror(number) if number > 0 else error.os_error.strerror
                raise Unavailable(f"{place}: cannot connect: {reason}") from error
            case aiohttp.ClientError() | ConnectionError():
                raise Unavailable(f"{place}: {_reason(error)}") from error
            case ValueError():
                raise Unavailable(f"{place}: answer is no HTTP: {_reason(error)}") from error
            case _:
                return


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:300]
