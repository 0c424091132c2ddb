"""The graph: from names of registrations to started plugins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sampan.engine.config import Settings
from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.plugin import Instance, Registration, start

__all__ = ["Graph"]


class Graph:
    """Plugins that have had their turn."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = tuple(instances)

    @classmethod
    async def start(cls, names: Sequence[str], settings: Settings) -> Graph:
        """Import the registrations and start them in order.

        Raises:
          InvalidArgument: config.toml has a table for a plugin that does not exist, or one that the
            plugin refuses.
        """
        found = [_registration(name) for name in names]
        known = {one.uri for one in found}
        for uri in settings.plugins:
            if uri not in known:
                raise InvalidArgument(
                    f"config file {settings.config} is refused: no plugin {uri!r} - at `$.plugins`"
                )
        tables: dict[str, Any] = dict(settings.plugins)
        instances = []
        async for one in start(found, root=settings.root, state=settings.state, configs=tables):
            if isinstance(one.error, InvalidArgument) and one.registration.uri in tables:
                raise InvalidArgument(f"config file {settings.config} is refused: {one.error}")
            instances.append(one)
        return cls(instances)

    def one(self, type: str, id: str = "") -> Any:
        """Return the first plugin of a type that works.

        Raises:
          FailedPrecondition: none does; says why.
        """
        reasons = []
        for each in self.instances:
            if each.registration.type.name == type and id in ("", each.registration.id):
                if each.ok:
                    return each.value
                reasons.append(each.init_err)
        raise FailedPrecondition(f"no plugin {type} works: {'; '.join(reasons) or 'none is known'}")

    def all(self, type: str) -> dict[str, Any]:
        """Return the working plugins of a type by id."""
        return {
            each.registration.id: each.value
            for each in self.instances
            if each.registration.type.name == type and each.ok
        }

    async def close(self) -> None:
        """Close the plugins that can be closed, the last one first."""
        for each in reversed(self.instances):
            if each.ok and hasattr(each.value, "close"):
                await each.value.close()


def _registration(name: str) -> Registration[Any, Any]:
    module, _, attribute = name.partition(":")
    value: Registration[Any, Any] = getattr(import_module(module), attribute)
    return value
