"""Plugins that are Python objects in this process, under the rules of all others.

    class Logger:
        name, index = "logger", "10"              # or the entry point's name, `10-logger`

        def create_container(self, pod, container):
            return pb.ContainerAdjustment(env=[pb.KeyValue(key="POD", value=pod.name)])

Methods are those of the Plugin service in lower case: `configure`, `synchronize`,
`run_pod_sandbox(pod)`, `create_container(pod, container)`, `update_container(pod, container,
resources)`, `stop_container(pod, container)`, `validate_container_adjustment(request)` and so on;
those that exist are its events. Each may be a coroutine function; others run in a thread of their
own, so that one that hangs only costs itself. `create_container` returns an adjustment, or a pair
with updates, or a whole response; the next two return updates; validation returns the reason for a
refusal, or raises. Every exception is the plugin's veto.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Final

from google.protobuf.message import Message

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import NriConfig
from sampan.cri.nri.external import check_index, check_name
from sampan.cri.nri.methods import METHODS
from sampan.errors import DeadlineExceeded, InvalidArgument, SampanError, Unknown

__all__ = ["GROUP", "InProcessPlugin", "installed"]

log = logging.getLogger(__name__)

GROUP: Final = "sampan.nri"
"""Entry points: `10-logger = "package.module:Class"`, called without arguments."""


class InProcessPlugin:
    """See `methods.Plugin`."""

    def __init__(self, plugin: Any, config: NriConfig, index: str = "", name: str = "") -> None:
        self._plugin = plugin
        self._config = config
        self.index = index or getattr(plugin, "index", "50")
        self.name = name or getattr(plugin, "name", type(plugin).__name__)
        check_index(self.index)
        check_name(self.name)
        self.events = 0
        for method, known in METHODS.items():
            if hasattr(plugin, _snake(method)):
                self.events |= 1 << (known.event - 1)

    @property
    def label(self) -> str:
        return f"{self.index}-{self.name}"

    async def configure(self, settings: str) -> None:
        """Hand over the configuration file; what it returns, if anything, is its event mask."""
        config = self._config
        if hasattr(self._plugin, "configure"):
            mask = await self._run(
                "configure", (settings, config.runtime_name, config.runtime_version)
            )
            if mask:
                self.events = int(mask)

    async def call(self, method: str, request: Message) -> Any:
        known = METHODS[method]
        if method == "ValidateContainerAdjustment":
            reason = await self._run(_snake(method), (request,))
            return known.answer(reject=bool(reason), reason=str(reason or ""))
        # Copies: what a plugin does to them is no adjustment.
        fields = [_copy(getattr(request, field.name)) for field in request.DESCRIPTOR.fields]
        answer = await self._run(_snake(method), fields)
        if answer is None or isinstance(answer, known.answer):
            return answer or known.answer()
        try:
            if method == "CreateContainer":
                return _creation(answer)
            return known.answer(update=answer)
        except (TypeError, ValueError) as err:
            raise Unknown(f"its {_snake(method)} returned {type(answer).__name__}") from err

    async def synchronize(
        self, pods: list[pb.PodSandbox], containers: list[pb.Container]
    ) -> list[pb.ContainerUpdate]:
        if not hasattr(self._plugin, "synchronize"):
            return []
        return list(await self._run("synchronize", (pods, containers)) or ())

    async def close(self) -> None:
        if hasattr(self._plugin, "shutdown"):
            try:
                await self._run("shutdown", ())
            except SampanError as err:
                log.warning("NRI plugin %s at shutdown: %s", self.label, err)

    async def _run(self, name: str, arguments: Iterable[Any]) -> Any:
        method = getattr(self._plugin, name)
        timeout_s = self._config.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                if inspect.iscoroutinefunction(method):
                    return await method(*arguments)
                return await _in_thread(lambda: method(*arguments), f"nri {self.label}")
        except SampanError:
            raise
        except TimeoutError as err:
            raise DeadlineExceeded(f"{name} did not return within {timeout_s:g} s") from err
        except Exception as err:
            log.debug("NRI plugin %s: %s failed", self.label, name, exc_info=err)
            raise Unknown(f"{type(err).__name__}: {err}") from err


def _creation(answer: Any) -> pb.CreateContainerResponse:
    if isinstance(answer, pb.ContainerAdjustment):
        return pb.CreateContainerResponse(adjust=answer)
    adjust, updates = answer
    return pb.CreateContainerResponse(adjust=adjust, update=updates or ())


def _copy(value: Any) -> Any:
    if not isinstance(value, Message):
        return value
    made = type(value)()
    made.CopyFrom(value)
    return made


async def _in_thread(fn: Callable[[], Any], name: str) -> Any:
    """Run foreign code in a thread that nobody waits for when it does not end.

    `concurrency.to_thread` waits for its thread, as our own code needs; this code is not ours.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = fn()
        except BaseException as err:  # noqa: BLE001 - raised where it is awaited
            error = err
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            log.debug("%s: returned after the daemon's end", name)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


def _snake(method: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method)[1:]


def installed(config: NriConfig) -> list[InProcessPlugin]:
    """Return the plugins of the entry point group; those that cannot be loaded are logged."""
    found: list[InProcessPlugin] = []
    for point in entry_points(group=GROUP):
        index, dash, name = point.name.partition("-")
        try:
            made = point.load()()
            found.append(InProcessPlugin(made, config, *((index, name) if dash else ("", ""))))
        except InvalidArgument as err:
            log.warning("in-process NRI plugin not loaded: %s: %s", point.name, err)
        except Exception:
            log.exception("in-process NRI plugin not loaded: %s", point.name)
    return found
