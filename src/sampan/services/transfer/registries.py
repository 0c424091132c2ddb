"""A registry client for one request: its hosts folder, headers, credentials and log are policy."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from sampan.api.containerd.types.transfer import registry_pb2 as pb
from sampan.distribution.registry.auth import Credentials
from sampan.distribution.registry.credentials import CredentialSource
from sampan.errors import Canceled, DeadlineExceeded, InvalidArgument, Unauthenticated
from sampan.services.streaming.flow import Sink
from sampan.services.streaming.registry import Stream

if TYPE_CHECKING:
    from sampan.distribution.registry.client import RegistryClient

__all__ = ["Lines", "StreamCredentials", "client_for"]

log = logging.getLogger(__name__)

_ANSWER: Final = pb.AuthResponse.DESCRIPTOR.full_name
_ANSWER_S: Final = 60.0
"""A person may have to type a password."""
_LINES_MAX: Final = 1000
_LAST_LINES_S: Final = 2.0


class StreamCredentials:
    """Credentials that the client is asked for over a stream: a `CredentialSource`."""

    def __init__(self, stream: Stream, reference: str) -> None:
        """Ask over `stream` on behalf of `reference`."""
        self._stream = stream
        self._reference = reference
        self._asking = asyncio.Lock()

    async def lookup(self, registry: str, path: str = "") -> Credentials:
        """Return what the client knows of a registry.

        Raises:
          Unauthenticated: the client hung up.
          DeadlineExceeded: it does not answer.
        """
        del path
        host = "registry-1.docker.io" if registry == "docker.io" else registry
        async with self._asking:
            await self._stream.send(pb.AuthRequest(host=host, reference=self._reference))
            try:
                async with asyncio.timeout(_ANSWER_S):
                    message = await self._stream.receive()
            except TimeoutError:
                raise DeadlineExceeded(f"client gives no credentials for {host}") from None
        if message is None:
            raise Unauthenticated(f"client closed its credentials stream, asked for {host}")
        if message.type_url.rpartition("/")[2] != _ANSWER:
            raise InvalidArgument(f"credentials stream: {message.type_url[:100]!r} is no answer")
        try:
            return _credentials(pb.AuthResponse.FromString(message.value))
        except DecodeError as err:
            raise InvalidArgument(f"credentials stream: {err}") from err


def _credentials(answer: pb.AuthResponse) -> Credentials:
    match answer.authType:
        case pb.CREDENTIALS:
            return Credentials(username=answer.username, password=answer.secret)
        case pb.REFRESH:
            return Credentials(identity_token=answer.secret)
        case pb.HEADER:
            return Credentials(registry_token=answer.secret.removeprefix("Bearer "))
        case _:
            return Credentials()


def client_for(
    place: pb.OCIRegistry,
    *,
    hosts_dir: Path,
    environ: Mapping[str, str],
    credentials: Stream | None,
    lines: Lines | None,
    fallback: CredentialSource | None = None,
) -> RegistryClient:
    """Return a client as the request describes it; the caller closes it.

    Args:
      place: The registry of the request.
      hosts_dir: certs.d where the request names none.
      environ: For proxies.
      credentials: Whom to ask for them; nobody's are used otherwise.
      lines: Told what is asked and answered.
      fallback: Whose credentials are used where the request has none.
    """
    # aiohttp costs a daemon that never pulls 120 ms and some MB.
    from sampan.distribution.registry.client import RegistryClient, RegistryOptions
    from sampan.distribution.registry.hosts import HostsOptions

    resolver = place.resolver
    plain = {"http": True, "https": False}.get(resolver.default_scheme)
    source: CredentialSource = fallback or _Nobody()
    if credentials:
        source = StreamCredentials(credentials, place.reference)
    return RegistryClient(
        RegistryOptions(
            hosts=HostsOptions(
                folders=(Path(resolver.host_dir) if resolver.host_dir else hosts_dir,),
                plain_http=plain,
                headers={name: (value,) for name, value in resolver.headers.items()},
            ),
            environ=environ,
            credentials=source,
            log=lines,
        )
    )


class _Nobody:
    """No credentials: the daemon's own user is nobody to a client's registry."""

    async def lookup(self, registry: str, path: str = "") -> Credentials:
        del registry, path
        return Credentials()


class Lines:
    """The log of a client's HTTP, sent to it; lines that it does not read in time are dropped."""

    def __init__(self, stream: Stream) -> None:
        """Send to `stream`, from now on."""
        self._stream = stream
        self._sink = Sink(stream)
        self._lines: deque[str] = deque(maxlen=_LINES_MAX)
        self._changed = asyncio.Event()
        self._over = False
        loop = asyncio.get_running_loop()
        self._windows = loop.create_task(self._sink.pump())
        self._sending = loop.create_task(self._send())

    def __call__(self, line: str) -> None:
        """Take a line."""
        self._lines.append(line)
        self._changed.set()

    async def _send(self) -> None:
        try:
            while not self._over or self._lines:
                if self._lines:
                    await self._sink.send(self._lines.popleft().encode() + b"\n")
                else:
                    self._changed.clear()
                    await self._changed.wait()
        except Canceled:
            log.debug("client does not read its registry log")

    async def close(self) -> None:
        """Send what is left, if the client takes it, and close the stream."""
        self._over = True
        self._changed.set()
        await asyncio.wait({self._sending}, timeout=_LAST_LINES_S)
        self._stream.close()
        for task in (self._sending, self._windows):
            task.cancel()
        await asyncio.wait({self._sending, self._windows})
