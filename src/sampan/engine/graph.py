"""The graph: from registrations to started plugins, as the configuration wants them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sampan.engine.config import Settings
from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.plugin import Instance, Registration, start

__all__ = ["Graph"]

log = logging.getLogger(__name__)

_OURS: Final = ("io.sampan.engine.v1.settings",)


class Graph:
    """Plugins that have had their turn."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = tuple(instances)

    @classmethod
    async def start(
        cls,
        found: Iterable[Registration[Any, Any]],
        settings: Settings,
        essential: Iterable[str] = (),
    ) -> Graph:
        """Start registrations in order. A later one with the URI of an earlier takes its place.

        Args:
          found: In any order.
          settings: What they are told, and which are disabled or required.
          essential: URIs of those without which there is no engine: what they raise is raised.

        Raises:
          InvalidArgument: config.toml has a table for a plugin that does not exist, or one that the
            plugin refuses.
          FailedPrecondition: a required plugin does not work.
        """
        by_uri = {one.uri: one for one in found}
        tables = _tables(settings, by_uri)
        instances: list[Instance] = []
        try:
            async for one in start(
                by_uri.values(),
                root=settings.root,
                state=settings.state,
                configs=tables,
                disabled=settings.disabled_plugins,
                essential=essential,
            ):
                instances.append(one)
                _check_told(settings, one, tables)
            _check_required(settings, instances)
        except BaseException:
            await cls(instances).close()
            raise
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
            if each.registration.type.name == str(type) and each.ok
        }

    async def close(self) -> None:
        """Close the plugins that can be closed, the last one first."""
        for each in reversed(self.instances):
            if each.ok and hasattr(each.value, "close"):
                await each.value.close()


def _tables(
    settings: Settings, registrations: Mapping[str, Registration[Any, Any]]
) -> dict[str, Any]:
    """Return the tables that plugins of the graph shall be told.

    In our own file, a table that is nobody's is an error. In containerd's, `Loaded` has warned
    already; and there, a key that a plugin of ours does not know is a warning, too.
    """
    result = {}
    for uri, table in settings.plugins.items():
        one = registrations.get(uri)
        if one is not None:
            result[uri] = _known_keys(settings, one, table) if settings.foreign else table
        elif not settings.foreign and not _has_meaning(uri):
            raise InvalidArgument(
                f"config file {settings.config} is refused: no plugin {uri!r} - at `$.plugins`"
            )
    return result


def _has_meaning(uri: str) -> bool:
    from sampan.engine.schema import KNOWN

    return uri in KNOWN or uri in _OURS


def _known_keys(settings: Settings, one: Registration[Any, Any], table: object) -> object:
    if one.config is None or not isinstance(table, Mapping):
        return {}
    from sampan.engine.checking import dotted, unknown_keys

    unknown = {path[0] for path in unknown_keys(table, one.config) if len(path) == 1}
    for key in sorted(unknown):
        where = dotted(("plugins", one.uri, key))
        log.warning("config file %s: unknown key %s", settings.config, where)
    return {key: value for key, value in table.items() if key not in unknown}


def _check_told(settings: Settings, one: Instance, tables: Mapping[str, Any]) -> None:
    """See that the plugin, if it has a table, did not refuse it."""
    if isinstance(one.error, InvalidArgument) and one.registration.uri in tables:
        raise InvalidArgument(f"config file {settings.config} is refused: {one.error}")


def _check_required(settings: Settings, instances: Sequence[Instance]) -> None:
    """See that what the configuration requires of the graph works."""
    for each in instances:
        if each.registration.uri in settings.required_plugins and not each.ok:
            raise FailedPrecondition(
                f"required plugin {each.registration.uri} does not work: {each.init_err}"
            )
    missing = set(settings.required_plugins) & set(settings.disabled_plugins)
    if missing:
        raise FailedPrecondition(f"required plugin {min(missing)} is disabled")
