"""A spec mutator: every container gets no new privileges, and some may not ask for certain things.

    [plugins."io.sampan.spec-mutator.v1.hardened"]
      forbidden_capabilities = ["CAP_SYS_ADMIN", "CAP_SYS_MODULE"]
      exempt_namespaces = ["kube-system"]

It sees the spec as it is about to run, whoever made it: ctr, nerdctl, the CRI plugin.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.engine.extensions import SPEC_MUTATOR, MutationContext, SpecMutator
from sampan.errors import PermissionDenied
from sampan.plugin import InitContext, plugin

__all__ = ["hardened"]


class HardenedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    forbidden_capabilities: tuple[str, ...] = ("CAP_SYS_MODULE",)
    exempt_namespaces: tuple[str, ...] = ()


@plugin(SPEC_MUTATOR, "hardened", config=HardenedConfig)
def hardened(ctx: InitContext[HardenedConfig]) -> SpecMutator:
    """Change specs by the configuration."""
    return Hardened(ctx.config)


class Hardened:
    """See the module."""

    def __init__(self, config: HardenedConfig) -> None:
        self._config = config

    async def mutate(self, spec: dict[str, Any], context: MutationContext) -> dict[str, Any]:
        if context.namespace in self._config.exempt_namespaces:
            return spec
        process = spec.get("process", {})
        asked = process.get("capabilities", {}).get("bounding", [])
        forbidden = sorted(set(asked) & set(self._config.forbidden_capabilities))
        if forbidden:
            raise PermissionDenied(
                f"container {context.container} asks for {', '.join(forbidden)}, which the policy"
                f" of namespace {context.namespace} forbids"
            )
        process["noNewPrivileges"] = True
        return spec
