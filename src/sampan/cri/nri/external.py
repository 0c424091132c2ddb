"""A plugin in a process of its own, over a trunk: registered, configured, synchronized, called."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from google.protobuf.message import Message

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import NriConfig
from sampan.cri.nri.methods import ALL_EVENTS, METHODS
from sampan.cri.nri.trunk import Handlers, Trunk
from sampan.errors import DeadlineExceeded, InvalidArgument, SampanError, Unavailable, Unimplemented

__all__ = ["NRI_VERSION", "ExternalPlugin", "check_index", "check_name"]

log = logging.getLogger(__name__)

NRI_VERSION: Final = "v0.12.0"
"""What we claim to speak."""
_SYNC_MAX_BYTES: Final = 3 << 20
"""Of one Synchronize, of the 4 MiB that a message may have."""

OnUpdate = Callable[["ExternalPlugin", pb.UpdateContainersRequest], Awaitable[Message]]


class ExternalPlugin:
    """See `methods.Plugin`. Made by `join`."""

    def __init__(self, config: NriConfig, index: str, name: str, pid: int) -> None:
        self._config = config
        self.index = index
        self.name = name
        self.pid = pid
        self.events = 0
        self._trunk: Trunk | None = None
        self._old_ways: set[str] = set()

    @property
    def label(self) -> str:
        return f"{self.index}-{self.name}" if self.name else f"(pid {self.pid})"

    @classmethod
    async def join(
        cls,
        sock: socket.socket,
        config: NriConfig,
        on_update: OnUpdate,
        *,
        index: str = "",
        name: str = "",
        settings: str = "",
        pid: int = 0,
    ) -> ExternalPlugin:
        """Wait for the plugin behind `sock` to register, and configure it.

        Args:
          sock: Connected; becomes ours.
          config: Timeouts, and what the plugin is told about us.
          on_update: Called for its UpdateContainers.
          index: Of a plugin that we have started; else it says so itself.
          name: Likewise.
          settings: Text of its configuration file.
          pid: Of its process, for messages.

        Raises:
          DeadlineExceeded: it did not register in time.
          Unavailable: it hung up.
          InvalidArgument: it registered with a bad name, or wants events that do not exist.
        """
        self = cls(config, index, name, pid)
        registered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def register(request: pb.RegisterPluginRequest) -> Message:
            self._register(request, registered, fixed=bool(name))
            return pb.Empty()

        async def update(request: pb.UpdateContainersRequest) -> Message:
            return await on_update(self, request)

        handlers: Handlers = {
            "RegisterPlugin": (pb.RegisterPluginRequest, register),
            "UpdateContainers": (pb.UpdateContainersRequest, update),
        }
        self._trunk = await Trunk.over(sock, handlers)
        try:
            await self._registered(registered)
            await self._configure(settings)
        except BaseException:
            await self.close()
            raise
        return self

    def _register(
        self, request: pb.RegisterPluginRequest, done: asyncio.Future[None], *, fixed: bool
    ) -> None:
        if done.done():
            raise InvalidArgument(f"NRI plugin {self.label} has registered already")
        if not fixed:
            try:
                check_name(request.plugin_name)
                check_index(request.plugin_idx)
            except InvalidArgument as err:
                done.set_exception(err)
                raise
            self.name, self.index = request.plugin_name, request.plugin_idx
        done.set_result(None)

    async def _registered(self, registered: asyncio.Future[None]) -> None:
        assert self._trunk is not None  # noqa: S101 - `join` has made it
        timeout_s = self._config.registration_timeout_s
        waiting = (registered, self._trunk.closed)
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if registered.done():
            registered.result()
        elif self._trunk.closed.done():
            raise Unavailable(f"NRI plugin {self.label} hung up before it registered")
        else:
            raise DeadlineExceeded(
                f"NRI plugin {self.label} did not register within {timeout_s:g} s"
            )

    async def _configure(self, settings: str) -> None:
        config = self._config
        request = pb.ConfigureRequest(
            config=settings,
            runtime_name=config.runtime_name,
            runtime_version=config.runtime_version,
            registration_timeout=int(config.registration_timeout_s * 1000),
            request_timeout=int(config.request_timeout_s * 1000),
            NRI_version=NRI_VERSION,
        )
        answer = await self._ask("Configure", request, pb.ConfigureResponse)
        events = answer.events or ALL_EVENTS
        if events & ~ALL_EVENTS or events < 0:
            raise InvalidArgument(f"NRI plugin {self.label} wants unknown events: {events:#x}")
        self.events = events

    async def _ask(self, method: str, request: Message, answer: type[Any]) -> Any:
        assert self._trunk is not None  # noqa: S101 - `join` has made it
        return await self._trunk.call(method, request, answer, self._config.request_timeout_s)

    async def call(self, method: str, request: Message) -> Any:
        known = METHODS[method]
        if method not in self._old_ways:
            try:
                return await self._ask(method, request, known.answer)
            except Unimplemented:
                if method == "ValidateContainerAdjustment":
                    return known.answer()
                if not known.state_change:
                    raise
                self._old_ways.add(method)
        event = pb.StateChangeEvent(event=known.event)  # type: ignore[arg-type]
        for name in ("pod", "container"):
            if name in request.DESCRIPTOR.fields_by_name:
                getattr(event, name).CopyFrom(getattr(request, name))
        await self._ask("StateChange", event, pb.Empty)
        return known.answer()

    async def synchronize(
        self, pods: list[pb.PodSandbox], containers: list[pb.Container]
    ) -> list[pb.ContainerUpdate]:
        requests = list(_sync_requests(pods, containers))
        for number, request in enumerate(requests):
            request.more = number < len(requests) - 1
            answer = await self._ask("Synchronize", request, pb.SynchronizeResponse)
            if request.more and (answer.update or not answer.more):
                raise InvalidArgument(
                    f"NRI plugin {self.label} cannot be told of {len(pods)} pods: it does not "
                    "understand a Synchronize in several messages"
                )
        return list(answer.update)

    async def close(self) -> None:
        """Say goodbye if it still listens, and hang up."""
        trunk, self._trunk = self._trunk, None
        if trunk is None:
            return
        try:
            if self.events and not trunk.closed.done():
                timeout_s = min(1.0, self._config.request_timeout_s)
                await trunk.call("Shutdown", pb.Empty(), pb.Empty, timeout_s)
        except SampanError as err:
            log.debug("NRI plugin %s at shutdown: %s", self.label, err)
        finally:
            await trunk.close()


def _sync_requests(
    pods: list[pb.PodSandbox], containers: list[pb.Container]
) -> Iterator[pb.SynchronizeRequest]:
    """Yield as many requests as it takes for none to be too long; at least one."""
    request, size = pb.SynchronizeRequest(), 0
    for pod in pods:
        size += pod.ByteSize() + 8
        if size > _SYNC_MAX_BYTES and request.pods:
            yield request
            request, size = pb.SynchronizeRequest(), pod.ByteSize() + 8
        request.pods.append(pod)
    for container in containers:
        size += container.ByteSize() + 8
        if size > _SYNC_MAX_BYTES and (request.pods or request.containers):
            yield request
            request, size = pb.SynchronizeRequest(), container.ByteSize() + 8
        request.containers.append(container)
    yield request


def check_index(index: str) -> None:
    """Check that `index` is two digits.

    Raises:
      InvalidArgument: it is not.
    """
    if not (len(index) == 2 and index.isascii() and index.isdigit()):
        raise InvalidArgument(f"NRI plugin index {index!r}: must be two digits")


def check_name(name: str) -> None:
    """Check that `name` has only letters, digits and `-_.+`.

    Raises:
      InvalidArgument: it has others, or none.
    """
    bare = "".join(letter for letter in name if letter not in "-_.+")
    if not name or not (bare.isascii() and (bare.isalnum() or not bare)):
        raise InvalidArgument(f"NRI plugin name {name!r}: letters, digits and -_.+ only")
