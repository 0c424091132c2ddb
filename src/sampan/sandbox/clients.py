"""Clients: an engine in this process or a daemon's socket, with the same face.

    async with sampan.aio.in_process(root="/srv/boxes") as client:
        async with client.sandbox("host:") as box: ...
        await client.pull("docker.io/library/python:3.12")

A client is held by a task of its own (`_keep`), which opens it, waits, and closes it: so it may be
opened by one task, used by many, and closed by another. The end of the loop cancels that task, and
so closes what nobody has closed; a default client lives by this alone.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from sampan.context import DEFAULT_NAMESPACE
from sampan.errors import FailedPrecondition, NotFound
from sampan.sandbox.scope import scoped
from sampan.sandbox.values import SandboxInfo

if TYPE_CHECKING:
    from sampan.client import Client as RawClient
    from sampan.engine.config import Settings
    from sampan.events import Envelope
    from sampan.sandbox.box import Sandbox

__all__ = ["Client", "connect", "default_client", "in_process"]

_defaults: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Client]] = (
    weakref.WeakKeyDictionary()
)


def in_process(
    *,
    root: str | os.PathLike[str] = "",
    state: str | os.PathLike[str] = "",
    config: str | os.PathLike[str] = "",
    snapshotter: str = "",
    namespace: str = DEFAULT_NAMESPACE,
) -> Client:
    """Return a client with an engine in this process; open it by `with`.

    Any number of processes may use one root at a time.

    Args:
      root: What survives a reboot; by default /var/lib/sampan, or below $XDG_DATA_HOME.
      state: What need not; by default /run/sampan, or below $XDG_RUNTIME_DIR. Who shares a root
        shares its state.
      config: A config.toml; by default /etc/sampan/config.toml, if there is one.
      snapshotter: In place of the configured one: `overlayfs`, `native`, `fuse-overlayfs`.
      namespace: Whose images and containers.

    Raises:
      InvalidArgument: config.toml is missing or wrong.
    """
    return Client(_settings(root, state, config, snapshotter), namespace=namespace)


def connect(address: str = "", *, namespace: str = DEFAULT_NAMESPACE) -> Client:
    """Return a client of the daemon at `address`, its socket's path; open it by `with`.

    Without an address, that of the configured daemon.
    """
    settings = _settings("", "", "", "")
    return Client(settings, namespace=namespace, address=address or str(settings.address))


def _settings(root: object, state: object, config: object, snapshotter: str) -> Settings:
    import dataclasses

    from sampan.engine.config import resolve

    flags = {"root": root, "state": state, "config": config}
    settings = resolve({name: str(path) for name, path in flags.items() if path}, os.environ)
    return dataclasses.replace(settings, snapshotter=snapshotter) if snapshotter else settings


async def default_client() -> Client:
    """Return the running loop's client of the default settings, opened by the first call."""
    loop = asyncio.get_running_loop()
    client = _defaults.get(loop)
    if client is None or client.closed:
        client = _defaults[loop] = in_process()
    await client.open()
    return client


class Client:
    """Sandboxes and images of one namespace. Make it by `in_process` or `connect`."""

    def __init__(self, settings: Settings, *, namespace: str, address: str = "") -> None:
        self._settings = settings
        self._address = address
        self.namespace = namespace
        self._keeper: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[RawClient] | None = None
        self._stop = asyncio.Event()
        self._boxes: set[Sandbox] = set()

    def remember(self, box: Sandbox) -> None:
        """Called by a sandbox that starts."""
        self._boxes.add(box)

    def forget(self, box: Sandbox) -> None:
        """Called by a sandbox that is gone."""
        self._boxes.discard(box)

    async def open(self) -> None:
        """Open it; `with` does it for you. Harmless twice.

        Raises:
          PermissionDenied: root or state are not ours.
          Unavailable: nobody listens at the address.
        """
        if self._opened is None:
            loop = asyncio.get_running_loop()
            self._opened = loop.create_future()
            self._keeper = loop.create_task(self._keep(self._opened), name="sampan client")
        await asyncio.shield(self._opened)

    async def _keep(self, opened: asyncio.Future[RawClient]) -> None:
        from sampan.client import connect as connect_raw
        from sampan.client.sweeping import sweep

        try:
            async with connect_raw(
                self._settings, namespace=self.namespace, address=self._address, warm=True
            ) as raw:
                await sweep(raw)
                opened.set_result(raw)
                await self._stop.wait()
        except BaseException as err:
            if not opened.done():
                opened.set_exception(err)
                opened.exception()  # whoever opens gets it; nobody may be left
                return
            raise

    @property
    def closed(self) -> bool:
        """Whether it was closed, or could not be opened."""
        return self._stop.is_set() or (self._keeper is not None and self._keeper.done())

    @property
    def raw(self) -> RawClient:
        """The client below, whose calls are those of the rooms.

        Raises:
          FailedPrecondition: it is not open.
        """
        if self._opened is None or not self._opened.done() or self.closed:
            raise FailedPrecondition("the client is not open: use it inside `with`")
        return self._opened.result()

    async def close(self) -> None:
        """Close it; sandboxes that are still open are ended. Harmless twice."""
        for box in list(self._boxes):
            await box.close()
        self._stop.set()
        if self._keeper is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.wait((self._keeper,)))
            if self._keeper.done() and not self._keeper.cancelled():
                self._keeper.result()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def sandbox(self, image: str = "host:", **options: Any) -> Sandbox:
        """Return a sandbox of this client, not yet started; see `Sandbox` for the options."""
        from sampan.sandbox.box import Sandbox

        return Sandbox(image, client=self, **options)

    @scoped
    async def sandboxes(self) -> list[SandboxInfo]:
        """Return all containers of the namespace, whoever made them, the newest first."""
        from sampan.client.containers import views

        return [
            SandboxInfo(
                id=one.container.id,
                name=one.name,
                image=one.container.image,
                state=one.state,
                exit_status=one.exit_status,
                created_at=one.container.created_at,
                labels=dict(one.container.labels),
            )
            for one in await views(self.raw)
        ]

    @scoped
    async def attach(self, name: str) -> Sandbox:
        """Return a running sandbox by name, id, or the beginning of an id; it outlives us.

        Raises:
          NotFound: there is none.
          FailedPrecondition: it does not run.
        """
        from sampan.sandbox.box import Sandbox

        return await Sandbox._attached(self, name)  # noqa: SLF001 - the same room

    @scoped
    async def pull(self, image: str, *, platform: str = "") -> str:
        """Fetch an image from its registry, unpack it, and return its full name.

        Raises:
          InvalidArgument: no reference, or no platform.
          SampanError: as the registry says.
        """
        from sampan.client.images import fetch

        return (await fetch(self.raw, image, platform=platform)).name

    @scoped
    async def images(self) -> list[str]:
        """Return the names of the images that are here."""
        return sorted(image.name for image in await self.raw.images.list())

    @scoped
    async def remove_image(self, image: str) -> None:
        """Remove an image's name; what it alone kept goes with it.

        Raises:
          NotFound: there is none.
        """
        from sampan.client.images import find

        found = await find(self.raw, image)
        await self.raw.images.delete(found.name)
        await self.raw.collect_garbage()

    @scoped
    async def tag(self, image: str, name: str) -> None:
        """Give an image one name more.

        Raises:
          NotFound: there is no such image.
        """
        from sampan.client.images import find
        from sampan.model.reference import parse

        found = await find(self.raw, image)
        await (await self.raw.transfer()).tag(found.name, str(parse(name)))

    @scoped
    async def collect_garbage(self) -> int:
        """Remove what nothing refers to, and what dead owners left; return how many things went."""
        from sampan.client.sweeping import sweep

        return await sweep(self.raw) + await self.raw.collect_garbage()

    async def events(self, *filters: str) -> AsyncIterator[Mapping[str, object]]:
        """Yield what happens, as mappings with `topic`, `namespace`, `time_ns` and `event`.

        Args:
          filters: In containerd's language: `topic~="/tasks/.*"`.
        """
        async with self.raw.events.subscribe(*filters) as envelopes:
            async for envelope in envelopes:
                yield _event(envelope)


def _event(envelope: Envelope) -> Mapping[str, object]:
    event = envelope.event
    fields: Mapping[str, object] = getattr(event, "fields", {})
    return {
        "topic": envelope.topic,
        "namespace": envelope.namespace,
        "time_ns": envelope.timestamp_ns,
        "event": dict(fields),
    }


def not_here(image: str) -> NotFound:
    """Return the error for an image that may not be pulled."""
    return NotFound(f"no image {image} here, and pull='never' was given: pull it first")
