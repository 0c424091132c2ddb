"""A credential provider: tokens in files that something else keeps fresh, such as a secret store.

    [plugins."io.sampan.credentials.v1.tokens"]
      folder = "/run/secrets/registries"          # holds <host>: a line `user:password`

Files are read at each request, so that a rotated secret counts at once.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sampan.concurrency import to_thread
from sampan.distribution.registry.auth import Credentials
from sampan.engine.extensions import CREDENTIALS, CredentialProvider
from sampan.plugin import InitContext, plugin

__all__ = ["tokens"]


class TokensConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    folder: str = "/run/secrets/registries"


@plugin(CREDENTIALS, "tokens", config=TokensConfig)
def tokens(ctx: InitContext[TokensConfig]) -> CredentialProvider:
    """Read the folder of the configuration."""
    return Tokens(Path(ctx.config.folder))


class Tokens:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def credentials(self, registry: str, repository: str) -> Credentials | None:
        return await to_thread(self._read, registry)

    def _read(self, registry: str) -> Credentials | None:
        if "/" in registry or registry.startswith("."):
            return None
        try:
            text = (self._folder / registry).read_text(encoding="utf-8")
        except OSError:
            return None
        user, colon, password = text.strip().partition(":")
        return Credentials(username=user, password=password) if colon else None
