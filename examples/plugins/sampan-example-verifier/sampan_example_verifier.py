"""An image verifier: only what matches a pattern is pulled.

[plugins."io.containerd.image-verifier.v1.allowed"]
  patterns = ["registry.example/*", "docker.io/library/busybox:*"]
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from sampan.engine.extensions import IMAGE_VERIFIER, ImageVerifier, Verdict
from sampan.model.descriptor import Descriptor
from sampan.plugin import InitContext, plugin

__all__ = ["allowed"]


class AllowedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    patterns: tuple[str, ...] = ("*",)
    """Globs of whole references."""


@plugin(IMAGE_VERIFIER, "allowed", config=AllowedConfig)
def allowed(ctx: InitContext[AllowedConfig]) -> ImageVerifier:
    """Judge by the patterns of the configuration."""
    return Allowed(ctx.config.patterns)


class Allowed:
    """See the module."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns

    async def verify(self, name: str, descriptor: Descriptor) -> Verdict:
        for pattern in self._patterns:
            if fnmatchcase(name, pattern):
                return Verdict(True, f"matches {pattern}")
        return Verdict(False, f"matches none of {', '.join(self._patterns)}")
