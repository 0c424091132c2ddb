"""Credential providers in front of what docker and podman keep in files."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sampan.distribution.registry.auth import Credentials
from sampan.distribution.registry.credentials import CredentialSource
from sampan.engine.extensions import CredentialProvider

__all__ = ["ProvidedCredentials"]

log = logging.getLogger(__name__)


class ProvidedCredentials:
    """A CredentialSource: providers in order of their ids, then `fallback`."""

    def __init__(
        self, providers: Mapping[str, CredentialProvider], fallback: CredentialSource | None
    ) -> None:
        self._providers = providers
        self._fallback = fallback

    async def lookup(self, registry: str, path: str = "") -> Credentials:
        """Return the first provider's answer; one that fails is passed over."""
        for id in sorted(self._providers):  # noqa: A001
            try:
                found = await self._providers[id].credentials(registry, path)
            except Exception:  # the edge between us and third parties
                log.exception("credential provider failed: plugin=%s registry=%s", id, registry)
                continue
            if found is not None:
                return found
        if self._fallback is None:
            return Credentials()
        return await self._fallback.lookup(registry, path)
