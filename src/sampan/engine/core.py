"""What every engine has in its graph besides storage: the exchange, the metadata, our differ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sampan.engine.config import Settings
from sampan.engine.hosting import hosted
from sampan.errors import InvalidArgument
from sampan.events import Exchange
from sampan.metadata import METADATA, Metadata, SharingPolicy
from sampan.plugin import InitContext, PluginType, Registration
from sampan.runtime import Shims
from sampan.storage.plugins import CONTENT, SNAPSHOTTER

if TYPE_CHECKING:
    from sampan.storage.content import Store
    from sampan.storage.diff.processors import Processors

__all__ = ["EVENTS", "METADATA_URI", "EngineRunner", "core"]

EVENTS: Final[PluginType[Exchange]] = PluginType("io.containerd.event.v1")
_DIFFER: Final[PluginType[Any]] = PluginType("io.containerd.differ.v1")
_VERIFIER: Final = "io.containerd.image-verifier.v1.bindir"
_VERIFIERS: Final = "/opt/containerd/image-verifier/bin"
_BOLT: Final = "bolt"
"""What clients know the metadata by, whatever keeps it."""
METADATA_URI: Final = f"{METADATA}.{_BOLT}"


class EngineRunner:
    """Runs workers of storage in the zygote, which is started by the first. See `Runner`."""

    def __init__(self, settings: Settings, shims: Shims) -> None:
        self._settings = settings
        self._shims = shims
        self._processors: Processors | None = None
        self.rootless = os.geteuid() != 0
        """Workers are root of a user namespace, and must open mounts themselves."""

    @property
    def processors(self) -> Processors:
        """The stream processors of the configuration."""
        if self._processors is None:
            from sampan.storage.diff.processors import Processor, Processors

            self._processors = Processors(
                [
                    Processor(id, one.accepts, one.returns, one.path, one.args, one.env)
                    for id, one in self._settings.stream_processors.items()  # noqa: A001
                ]
            )
        return self._processors

    async def __call__(
        self, request: Mapping[str, object], fds: Sequence[int]
    ) -> dict[str, object]:
        from sampan.storage.workers import MODULE, ZygoteRunner

        module = "sampan.storage.rootless" if self.rootless else MODULE
        return await ZygoteRunner(await self._shims.zygote(), module)(request, fds)


def core(
    settings: Settings, events: Exchange, runner: EngineRunner, *, whole: bool = False
) -> Iterator[Registration[Any, Any]]:
    """Yield the registrations.

    Args:
      settings: How.
      events: The exchange.
      runner: Runs workers.
      whole: Also what a command line has no use for, unless it is configured.
    """

    def exchange(ctx: InitContext[None]) -> Exchange:
        return events

    async def metadata(ctx: InitContext[Any]) -> Metadata:
        ctx.instance.exports["policy"] = _sharing(settings).value
        return await Metadata.open(
            settings.root,
            content=hosted(ctx.get(CONTENT)),
            snapshotters=ctx.all(SNAPSHOTTER),
            events=events,
            sharing=_sharing(settings),
        )

    def walking(ctx: InitContext[None]) -> Any:
        def make(content: Store) -> Any:
            from sampan.engine.differs import Walking

            return Walking(content, runner)

        return make

    yield Registration(EVENTS, "exchange", exchange)
    config: type[Any] | None = None
    if METADATA_URI in settings.plugins:
        from sampan.engine.schema import Bolt

        config = Bolt
    yield Registration(METADATA, _BOLT, metadata, config, (CONTENT, SNAPSHOTTER, EVENTS))
    yield Registration(_DIFFER, "walking", walking, None, (METADATA,))
    if whole or _VERIFIER in settings.plugins or os.path.isdir(_VERIFIERS):
        # Its configuration's type costs some milliseconds, and most hosts have no such folder.
        from sampan.engine.verifiers import bindir

        yield bindir


def _sharing(settings: Settings) -> SharingPolicy:
    """Return how content is shared between namespaces; nobody pays for asking the default."""
    table = settings.plugins.get(METADATA_URI)
    if not isinstance(table, Mapping):
        return SharingPolicy.SHARED
    name = table.get("content_sharing_policy") or "shared"
    try:
        return SharingPolicy(name)
    except ValueError:
        known = ", ".join(one.value for one in SharingPolicy)
        raise InvalidArgument(
            f"config file {settings.config} is refused: content_sharing_policy: {name!r} is none of"
            f" {known}"
        ) from None
