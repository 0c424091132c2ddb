"""What third parties may add: a type for each kind of plugin, and what a plugin of it must do.

    from sampan.engine.extensions import EVENT_SINK, EventSink
    from sampan.plugin import InitContext, plugin

    @plugin(EVENT_SINK, "statsd", config=StatsdConfig)
    def statsd(ctx: InitContext[StatsdConfig]) -> EventSink: ...

and in the package's pyproject.toml

    [project.entry-points."sampan.plugins"]
    statsd = "my_package:statsd"

| kind | type | who asks it, and when |
|---|---|---|
| snapshotter | SNAPSHOTTER | metadata's views, by the name in a request |
| content store | CONTENT | metadata's view, if our own (`...content`) is disabled |
| differ | DIFFER | the diff service, in the order of its `default` |
| image verifier | IMAGE_VERIFIER | a pull, between resolving and fetching; all must agree |
| credential provider | CREDENTIALS | a registry that wants them, before files and helpers |
| log driver | LOG_DRIVER | whoever creates a container with `--log-driver <id>` |
| event sink | EVENT_SINK | the daemon, for every event it sees |
| spec mutator | SPEC_MUTATOR | creation of a task, in order of id; raising refuses the task |

Configuration is the table of the plugin's URI, checked against its `config` type. A plugin that
fails is shown by `ctr plugins ls` and breaks nothing else. Worked examples: folder `examples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from sampan.plugin import PluginType
from sampan.storage.plugins import CONTENT, SNAPSHOTTER

if TYPE_CHECKING:
    from sampan.distribution.registry.auth import Credentials
    from sampan.events import Envelope
    from sampan.model.descriptor import Descriptor
    from sampan.model.mounts import Mount
    from sampan.storage.content import Store

__all__ = [
    "CONTENT",
    "CREDENTIALS",
    "DIFFER",
    "EVENT_SINK",
    "IMAGE_VERIFIER",
    "LOG_DRIVER",
    "SANDBOXER",
    "SNAPSHOTTER",
    "SPEC_MUTATOR",
    "CredentialProvider",
    "Differ",
    "DifferFactory",
    "EventSink",
    "ImageVerifier",
    "LogDriver",
    "MutationContext",
    "SpecMutator",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier thinks of an image."""

    ok: bool
    reason: str
    """Shown to the user when it is not ok."""


class ImageVerifier(Protocol):
    """Decides whether an image may be pulled."""

    async def verify(self, name: str, descriptor: Descriptor) -> Verdict:
        """Judge; what it raises counts as a refusal.

        Args:
          name: The reference that is pulled.
          descriptor: What it resolved to: the root document.
        """
        ...


class CredentialProvider(Protocol):
    """Knows who we are to a registry."""

    async def credentials(self, registry: str, repository: str) -> Credentials | None:
        """Return credentials for a registry's host name; None leaves it to others."""
        ...


class LogDriver(Protocol):
    """Takes what containers write."""

    def uri(self, namespace: str, container: str, options: Mapping[str, str]) -> str:
        """Return where the shim writes to: `file:///path`, or `binary:///program?key=value`.

        Raises:
          InvalidArgument: an option is unknown or wrong.
        """
        ...


class EventSink(Protocol):
    """Hears events. Each sink has a queue of its own; one that falls behind hears of the gap."""

    @property
    def filters(self) -> Sequence[str]:
        """Which envelopes it wants, as in Events.Subscribe; none is all."""
        ...

    async def deliver(self, envelope: Envelope) -> None:
        """Take one; what it raises is logged, and the next one comes."""
        ...


@dataclass(frozen=True, slots=True)
class MutationContext:
    """For which container a spec is."""

    namespace: str
    container: str
    runtime: str


class SpecMutator(Protocol):
    """Changes what is about to run."""

    async def mutate(self, spec: dict[str, Any], context: MutationContext) -> dict[str, Any]:
        """Return the OCI spec to run; it may be the one given, changed.

        Raises:
          SampanError: this container shall not run.
        """
        ...


class Differ(Protocol):
    """Applies layers and makes them; see `sampan.storage.diff`. Unimplemented asks the next one."""

    async def apply(
        self,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Descriptor: ...

    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
        source_date_epoch: int | None = None,
    ) -> Descriptor: ...


class DifferFactory(Protocol):
    """What a differ's init returns: called once, with the content of whatever namespace asks."""

    def __call__(self, content: Store) -> Differ: ...


IMAGE_VERIFIER: Final[PluginType[ImageVerifier]] = PluginType("io.containerd.image-verifier.v1")
DIFFER: Final[PluginType[DifferFactory]] = PluginType("io.containerd.differ.v1")
CREDENTIALS: Final[PluginType[CredentialProvider]] = PluginType("io.sampan.credentials.v1")
LOG_DRIVER: Final[PluginType[LogDriver]] = PluginType("io.sampan.log-driver.v1")
EVENT_SINK: Final[PluginType[EventSink]] = PluginType("io.sampan.event-sink.v1")
SPEC_MUTATOR: Final[PluginType[SpecMutator]] = PluginType("io.sampan.spec-mutator.v1")
SANDBOXER: Final[PluginType[Any]] = PluginType("io.containerd.sandbox.controller.v1")
"""Of proxies: what `sampan.runtime.controller.SandboxController` does, elsewhere."""
