"""An engine over one root: opened, used, closed."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sampan import context
from sampan.concurrency import to_thread
from sampan.engine.config import Settings
from sampan.engine.core import METADATA_URI, EngineRunner, core
from sampan.engine.discovery import builtin, third_party
from sampan.engine.graph import Graph
from sampan.errors import (
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    SampanError,
    Unavailable,
)
from sampan.events import Exchange
from sampan.metadata import METADATA, Metadata
from sampan.plugin import Registration
from sampan.runtime import LocalTasks, Shims

if TYPE_CHECKING:
    from sampan.distribution import Resolver
    from sampan.distribution.registry.credentials import CredentialSource
    from sampan.engine.extensions import Differ
    from sampan.model.descriptor import Descriptor

__all__ = ["Engine"]

log = logging.getLogger(__name__)

# By name: `extensions` costs msgspec, which most commands can do without.
_VERIFIER = "io.containerd.image-verifier.v1"
_CREDENTIALS = "io.sampan.credentials.v1"
_DIFFER = "io.containerd.differ.v1"
_DIFF_SERVICE = "io.containerd.service.v1.diff-service"
_LOG_DRIVER = "io.sampan.log-driver.v1"
_MUTATOR = "io.sampan.spec-mutator.v1"


class Engine:
    """What a process holds of a root; make it by `open`."""

    def __init__(
        self,
        settings: Settings,
        graph: Graph,
        metadata: Metadata,
        shims: Shims,
        events: Exchange,
        runner: EngineRunner,
        *,
        publish: bool = False,
    ) -> None:
        self.settings = settings
        self.runner = runner
        self.graph = graph
        self.metadata = metadata
        self.shims = shims
        self.events = events
        self.tasks = _tasks(settings, graph, shims, events, publish=publish)
        self._background: list[Callable[[], Awaitable[None]]] = []
        self._reloaders: list[Callable[[Settings], Awaitable[None]]] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, *, warm: bool = False, publish: bool = False
    ) -> AsyncIterator[Engine]:
        """Open the engine of `settings.root` and close it at the end of the block.

        Args:
          settings: Where and how.
          warm: Start the zygote already, beside the rest.
          publish: Shims send their events to `<address>.ttrpc`, where somebody listens.

        Raises:
          PermissionDenied: the folders are not ours.
          ResourceExhausted: no room on their disk.
        """
        async with AsyncExitStack() as stack:
            await to_thread(_folders, settings)
            address = str(settings.ttrpc) if publish else ""
            shims = Shims(
                settings.state, publish=address, foreign_runtimes=settings.foreign_runtimes
            )
            stack.push_async_callback(shims.close)
            if warm:
                shims.warm()
            events = Exchange()
            runner = EngineRunner(settings, shims)
            found = [*builtin(), *third_party(), *core(settings, events, runner, whole=publish)]
            if settings.proxy_plugins:
                found += _proxies(settings)
            graph = await Graph.start(found, settings, essential=(METADATA_URI,))
            stack.push_async_callback(graph.close)
            if runner.rootless:
                from sampan.storage.rootless import confine

                for snapshotter in graph.all("io.containerd.snapshotter.v1").values():
                    confine(snapshotter, shims.zygote_blocking)
            metadata = graph.one(METADATA.name)
            engine = cls(settings, graph, metadata, shims, events, runner, publish=publish)
            stack.push_async_callback(engine.tasks.close)
            yield engine

    def in_background(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let the daemon run `work` while it serves, until it is cancelled."""
        self._background.append(work)

    async def background(self) -> None:
        """Do all background work; one that fails is logged, and the others go on."""

        async def one(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except Exception:  # the edge: the daemon serves on without it
                log.exception("background work ended: %r", work)

        async with asyncio.TaskGroup() as group:
            for work in self._background:
                group.create_task(one(work))

    def on_reload(self, reloader: Callable[[Settings], Awaitable[None]]) -> None:
        """Let a room be told of new settings (SIGHUP): registries, CNI."""
        self._reloaders.append(reloader)

    async def reload(self, settings: Settings) -> None:
        """Take over of new settings what may change while we run: registries, plugins' tables.

        A room that cannot is logged and keeps what it had.
        """
        self.settings = replace(
            self.settings,
            hosts_dir=settings.hosts_dir,
            plugins=settings.plugins,
            timeouts=settings.timeouts,
            log_level=settings.log_level,
            log_format=settings.log_format,
        )
        for reloader in self._reloaders:
            try:
                await reloader(self.settings)
            except (SampanError, OSError):
                log.exception("reloading failed: %r", reloader)

    async def verify_image(self, name: str, descriptor: Descriptor) -> None:
        """Ask all image verifiers, before an image is fetched.

        Raises:
          PermissionDenied: one refuses it; says which and why.
        """
        verifiers = self.graph.all(_VERIFIER)
        if verifiers:
            from sampan.engine.verifiers import judge

            await judge(verifiers, name, descriptor)

    def verified(self, resolver: Resolver) -> Resolver:
        """Return a resolver that asks all image verifiers, if there are any."""
        verifiers = self.graph.all(_VERIFIER)
        if not verifiers:
            return resolver
        from sampan.engine.verifiers import VerifiedResolver

        return VerifiedResolver(resolver, verifiers)

    def credentials(self, fallback: CredentialSource | None) -> CredentialSource | None:
        """Return credential providers of plugins, in front of `fallback`."""
        providers = self.graph.all(_CREDENTIALS)
        if not providers:
            return fallback
        from sampan.engine.identities import ProvidedCredentials

        return ProvidedCredentials(providers, fallback)

    def differ(self) -> Differ:
        """Return the differs that configuration wants, in its order, as one."""
        from sampan.engine.differs import Ordered
        from sampan.engine.schema import DiffService
        from sampan.engine.sections import section

        wanted = section(self.settings, _DIFF_SERVICE, DiffService).default
        made = self.graph.all(_DIFFER)
        content = self.metadata.content
        return Ordered([made[name](content) for name in wanted if name in made])

    def log_uri(self, driver: str, container: str, options: Mapping[str, str]) -> str:
        """Return where a container writes to, by a log driver of a plugin.

        Raises:
          InvalidArgument: there is no such driver, or it refuses an option.
        """
        drivers = self.graph.all(_LOG_DRIVER)
        if driver not in drivers:
            known = ", ".join(sorted(drivers)) or "none is installed"
            raise InvalidArgument(f"log driver {driver!r} is no plugin: {known}")
        uri: str = drivers[driver].uri(context.namespace(), container, options)
        return uri

    async def run_worker(
        self, request: Mapping[str, object], fds: Sequence[int]
    ) -> dict[str, object]:
        """Run a worker of storage in the zygote."""
        return await self.runner(request, fds)

    async def identity(self) -> str:
        """Return the root's uuid, made once for all processes."""
        return await to_thread(_identity, self.settings.root)


def _tasks(
    settings: Settings, graph: Graph, shims: Shims, events: Exchange, *, publish: bool
) -> LocalTasks:
    tasks = LocalTasks(settings.state, shims, events, shims_publish=publish)
    mutators = graph.all(_MUTATOR)
    if not mutators:
        return tasks
    from sampan.engine.mutation import MutatedTasks

    return cast("LocalTasks", MutatedTasks(tasks, mutators))


def _proxies(settings: Settings) -> list[Registration[Any, Any]]:
    from sampan.engine.proxies import registrations

    try:
        return list(registrations(settings.proxy_plugins))
    except InvalidArgument as err:
        raise InvalidArgument(f"config file {settings.config} is refused: {err}") from err


def _identity(root: Path) -> str:
    file = root / "uuid"
    if not file.exists():
        temporary = root / f".uuid.{os.getpid()}"
        temporary.write_text(f"{uuid.uuid4()}\n")
        # The first process names the root; a link replaces nothing.
        with suppress(FileExistsError):
            os.link(temporary, file)
        temporary.unlink()
    return file.read_text().strip()


def _folders(settings: Settings) -> None:
    for path in (settings.root, settings.state):
        _folder(path)


def _folder(path: Path) -> None:
    """Make a folder 0711, whatever the umask; one that is there is narrowed to that."""
    try:
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise PermissionDenied(
                f"{path} belongs to user {status.st_uid}: choose others with --root and --state"
            )
        if status.st_mode & 0o777 & ~0o711:
            path.chmod(0o711)
    except SampanError:
        raise
    except PermissionError as err:
        raise PermissionDenied(
            f"cannot make {path}: {err.strerror}; run as root, or choose --root and --state"
        ) from err
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceExhausted(f"cannot make {path}: {err.strerror}; free some space") from err
        raise Unavailable(f"cannot make {path}: {err.strerror}") from err
