"""Parts that the engine puts together: what a part offers, needs and may be told.

    SNAPSHOTTER: Final[PluginType[Snapshotter]] = PluginType("io.containerd.snapshotter.v1")

    @plugin(SNAPSHOTTER, "overlayfs", config=OverlayConfig, requires=(CONTENT,))
    def overlayfs(ctx: InitContext[OverlayConfig]) -> Snapshotter: ...

`plugin` turns the function into a `Registration`, a value that stands where the function stood.
Nothing is registered by importing: the engine imports registrations by name ("sampan.storage.
snapshots.overlay:overlayfs"), third parties announce theirs by entry point. `ordered` sorts them so
that what a plugin requires comes first; `start` initializes them one by one.

A plugin that cannot work here raises `Skip(reason)`: that is no error, and is shown as
"skip plugin: reason". One that fails is kept with its error, and so are those that then miss it:
the engine decides whether it can go on. `init` may be a coroutine function.
"""

from __future__ import annotations

import builtins
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

from sampan.errors import FailedPrecondition, InvalidArgument, NotFound

__all__ = [
    "EVERY",
    "InitContext",
    "Instance",
    "PluginType",
    "Registration",
    "Skip",
    "decode_config",
    "ordered",
    "plugin",
    "start",
]

log = logging.getLogger(__name__)

T = TypeVar("T")
C = TypeVar("C")


class Skip(Exception):
    """Raised by an `init` whose plugin cannot or shall not work on this host."""


@dataclass(frozen=True)
class PluginType(Generic[T]):
    """A kind of plugin, whose instances are all `T`; its name is containerd's."""

    name: str

    def __str__(self) -> str:
        return self.name


EVERY: Final[PluginType[object]] = PluginType("*")
"""In `requires`: after every other plugin."""


@dataclass(frozen=True)
class Registration(Generic[T, C]):
    """All that is known of a plugin before it runs."""

    type: PluginType[T]
    id: str
    init: Callable[[InitContext[C]], T | Awaitable[T]]
    config: builtins.type[C] | None = None
    """A msgspec.Struct class with a default for every field; None takes no configuration."""
    requires: tuple[PluginType[Any], ...] = ()
    capabilities: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """`type.id`, the plugin's name in the configuration."""
        return f"{self.type}.{self.id}"


def plugin(
    type: PluginType[T],
    id: str,
    *,
    config: type[C] | None = None,
    requires: Sequence[PluginType[Any]] = (),
    capabilities: Sequence[str] = (),
) -> Callable[[Callable[[InitContext[C]], T | Awaitable[T]]], Registration[T, C]]:
    """Make the decorated init function the registration of plugin `id`."""

    def register(init: Callable[[InitContext[C]], T | Awaitable[T]]) -> Registration[T, C]:
        return Registration(type, id, init, config, tuple(requires), tuple(capabilities))

    return register


@dataclass(slots=True)
class Instance:
    """A registration after its turn: a value, or the reason why there is none."""

    registration: Registration[Any, Any]
    value: object = None
    error: Exception | None = None
    skipped: str = ""
    exports: dict[str, str] = field(default_factory=dict)
    """What introspection shows, such as {"root": path}."""
    capabilities: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.error is None and not self.skipped

    @property
    def init_err(self) -> str:
        """The text introspection shows, empty if all is well."""
        if self.skipped:
            return f"skip plugin: {self.skipped}"
        return str(self.error) if self.error is not None else ""


@dataclass(slots=True)
class InitContext(Generic[C]):
    """What an init function may know of the world: its configuration, its folders, the others."""

    config: C
    root: Path
    """`<root>/<type>.<id>`, for what must survive a reboot; not created."""
    state: Path
    """`<state>/<type>.<id>`, for what must not."""
    instance: Instance
    """Its own record; it may add exports and capabilities."""
    _started: Mapping[str, Mapping[str, Instance]] = field(default_factory=dict)

    def all(self, type: PluginType[T]) -> dict[str, T]:
        """Return the working plugins of a type by id, in the order they started."""
        found = self._started.get(type.name, {})
        return {name: cast(T, one.value) for name, one in found.items() if one.ok}

    def get(self, type: PluginType[T], id: str | None = None) -> T:
        """Return one working plugin; without id the first that started.

        Raises:
          NotFound: none is configured.
          FailedPrecondition: it is there but failed or was skipped.
        """
        found = self._started.get(type.name, {})
        wanted = [one for name, one in found.items() if id in (None, name)]
        for one in wanted:
            if one.ok:
                return cast(T, one.value)
        name = f"{type}.{id}" if id is not None else str(type)
        if wanted:
            raise FailedPrecondition(f"plugin {name} is not usable: {wanted[0].init_err}")
        raise NotFound(f"no plugin {name} is loaded")


def ordered(registrations: Iterable[Registration[Any, Any]]) -> list[Registration[Any, Any]]:
    """Sort so that each comes after all plugins of the types it requires; stable otherwise.

    Requiring a type that nobody offers is fine here: the init function decides.

    Raises:
      InvalidArgument: two plugins share type and id, or types require each other in a circle.
    """
    todo = list(registrations)
    by_type: dict[str, list[Registration[Any, Any]]] = {}
    seen: set[str] = set()
    for one in todo:
        if one.uri in seen:
            raise InvalidArgument(f"plugin {one.uri} is registered twice")
        seen.add(one.uri)
        by_type.setdefault(one.type.name, []).append(one)
    done: dict[str, Registration[Any, Any]] = {}
    path: list[str] = []

    def visit(one: Registration[Any, Any]) -> None:
        if one.uri in done:
            return
        if one.uri in path:
            circle = " requires ".join([*path[path.index(one.uri) :], one.uri])
            raise InvalidArgument(f"plugins require each other: {circle}")
        path.append(one.uri)
        for needed in one.requires:
            if needed == EVERY:
                others = [other for other in todo if EVERY not in other.requires]
            else:
                others = by_type.get(needed.name, [])
            for other in others:
                if other is not one:
                    visit(other)
        path.pop()
        done[one.uri] = one

    for one in todo:
        visit(one)
    return list(done.values())


def decode_config(registration: Registration[T, C], raw: Mapping[str, object] | None) -> C:
    """Check the plugin's table of the configuration file and make its config value.

    Raises:
      InvalidArgument: unknown key or wrong type; the message ends in its path.
    """
    if registration.config is None:
        if raw:
            raise InvalidArgument(f"plugin {registration.uri} takes no configuration")
        return cast(C, None)
    import msgspec  # 20 ms that programs without configuration need not pay

    try:
        return msgspec.convert(dict(raw or {}), registration.config)
    except msgspec.ValidationError as err:
        raise InvalidArgument(f"configuration of plugin {registration.uri}: {err}") from err


async def start(
    registrations: Iterable[Registration[Any, Any]],
    *,
    root: Path,
    state: Path,
    configs: Mapping[str, Mapping[str, object]] | None = None,
    disabled: Iterable[str] = (),
    essential: Iterable[str] = (),
) -> AsyncIterator[Instance]:
    """Initialize plugins in order and yield each when it has had its turn.

    Args:
      registrations: In any order.
      root: Each plugin's own root is a folder below it.
      state: Likewise for what does not survive a reboot.
      configs: Raw tables by `type.id`.
      disabled: `type.id` of those to leave out.
      essential: `type.id` of those whose error is the caller's, too: it is raised.
    """
    off, needed = set(disabled), set(essential)
    started: dict[str, dict[str, Instance]] = {}
    for one in ordered(each for each in registrations if each.uri not in off):
        instance = Instance(one, capabilities=list(one.capabilities))
        try:
            config = decode_config(one, (configs or {}).get(one.uri))
            context = InitContext(config, root / one.uri, state / one.uri, instance, started)
            value = one.init(context)
            instance.value = await value if inspect.isawaitable(value) else value
        except Skip as reason:
            instance.skipped = str(reason) or "no reason given"
            log.info("plugin skipped: %s: plugin=%s", instance.skipped, one.uri)
        except Exception as err:  # the edge between us and third parties
            if one.uri in needed:
                raise
            instance.error = err
            log.warning("plugin failed: plugin=%s", one.uri, exc_info=err)
        started.setdefault(one.type.name, {})[one.id] = instance
        yield instance
