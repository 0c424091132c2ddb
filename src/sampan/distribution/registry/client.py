"""The client of all registries: options in, resolver, fetchers and pushers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from sampan.concurrency import to_thread
from sampan.distribution.registry.credentials import CredentialSource, FileCredentials
from sampan.distribution.registry.endpoint import Authorizer, Endpoint
from sampan.distribution.registry.fetch import RegistryFetcher, resolve
from sampan.distribution.registry.hosts import HostsOptions, hosts_for
from sampan.distribution.registry.proxies import Proxies
from sampan.distribution.registry.push import RegistryPusher
from sampan.distribution.registry.transport import Deadlines, Transport
from sampan.errors import FailedPrecondition
from sampan.model.descriptor import Descriptor
from sampan.model.reference import Reference

__all__ = ["RegistryClient", "RegistryOptions"]


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Policy of one caller."""

    hosts: HostsOptions = field(default_factory=HostsOptions)
    deadlines: Deadlines = field(default_factory=Deadlines)
    environ: Mapping[str, str] = field(default_factory=dict)
    """For proxies and the places of credentials; the entry point passes os.environ."""
    credentials: CredentialSource | None = None
    """None is those of `environ`'s user."""
    push_chunk_bytes: int = 0
    """Upload in PATCHes of this size; 0 is each blob in one PUT."""
    log: Callable[[str], None] | None = None
    """Called with a line for each request and answer; it shows no credentials."""


class RegistryClient:
    """Implements `distribution.Resolver`. Open it with `async with`, or `close` it."""

    def __init__(self, options: RegistryOptions = RegistryOptions()) -> None:
        """Make a client that holds no connection yet."""
        self._options: Final = options
        self._transport: Final = Transport(Proxies(options.environ), options.deadlines, options.log)
        source = options.credentials or FileCredentials(options.environ)
        self._authorizer: Final = Authorizer(self._transport, source)

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
        await self._transport.close()

    async def resolve(self, reference: Reference) -> Descriptor:
        """See `distribution.Resolver.resolve`."""
        return await resolve(await self._endpoints(reference, "resolve"), reference)

    async def fetcher(self, reference: Reference) -> RegistryFetcher:
        """Return what fetches from the reference's repository."""
        return RegistryFetcher(await self._endpoints(reference, "pull"))

    async def pusher(self, reference: Reference) -> RegistryPusher:
        """Return what pushes to the reference's repository.

        Raises:
          FailedPrecondition: hosts.toml has no host that may be pushed to.
        """
        endpoints = await self._endpoints(reference, "push")
        if not endpoints:
            raise FailedPrecondition(f"{reference.domain}: hosts.toml lets nobody push")
        # The registry itself stands last; a mirror is not the place to push to.
        return RegistryPusher(endpoints[-1], chunk_bytes=self._options.push_chunk_bytes)

    async def ping(self, registry: str) -> None:
        """Ask a registry whether it knows us: nothing is read but its word.

        Raises:
          Unauthenticated: it does not take our credentials.
          Unavailable: it cannot be reached, or is no registry.
        """
        hosts = await to_thread(hosts_for, registry, self._options.hosts)
        endpoint = Endpoint(self._transport, self._authorizer, hosts[-1], "")
        async with endpoint.call(
            "GET", f"{endpoint.host.base}/", what=f"registry {registry}", accept=(200,)
        ):
            return

    async def _endpoints(self, reference: Reference, capability: str) -> list[Endpoint]:
        hosts = await to_thread(hosts_for, reference.domain, self._options.hosts)
        return [
            Endpoint(self._transport, self._authorizer, host, reference.path)
            for host in hosts
            if capability in host.capabilities
        ]
