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

from sampan.concurrency import to_thread
from sampan.engine.config import Settings
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
from sampan.metadata import Metadata, SharingPolicy
from sampan.runtime import LocalTasks, Shims

__all__ = ["Engine"]

log = logging.getLogger(__name__)

_CONTENT = "io.containerd.content.v1"
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
_BOLT = "io.containerd.metadata.v1.bolt"


class Engine:
    """What a process holds of a root; make it by `open`."""

    def __init__(
        self,
        settings: Settings,
        graph: Graph,
        metadata: Metadata,
        shims: Shims,
        events: Exchange,
        *,
        publish: bool = False,
    ) -> None:
        self.settings = settings
        self.graph = graph
        self.metadata = metadata
        self.shims = shims
        self.events = events
        self.tasks = LocalTasks(settings.state, shims, events, shims_publish=publish)
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
            graph = await Graph.start([*builtin(), *third_party()], settings)
            stack.push_async_callback(graph.close)
            metadata = await stack.enter_async_context(
                await Metadata.open(
                    settings.root,
                    content=graph.one(_CONTENT),
                    snapshotters=graph.all(_SNAPSHOTTER),
                    events=events,
                    sharing=_sharing(settings),
                )
            )
            engine = cls(settings, graph, metadata, shims, events, publish=publish)
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

    async def run_worker(
        self, request: Mapping[str, object], fds: Sequence[int]
    ) -> dict[str, object]:
        """Run a worker of storage in the zygote: what appliers are made with."""
        from sampan.storage.workers import ZygoteRunner

        return await ZygoteRunner(await self.shims.zygote())(request, fds)

    async def identity(self) -> str:
        """Return the root's uuid, made once for all processes."""
        return await to_thread(_identity, self.settings.root)


def _sharing(settings: Settings) -> SharingPolicy:
    """Return how content is shared between namespaces; nobody pays for asking the default."""
    table = settings.plugins.get(_BOLT)
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
