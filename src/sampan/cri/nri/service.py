"""NRI as the CRI rooms see it: plugins join and leave, and every step of a life is told to them.

Calls go to the plugins one after the other, in order of their index, and one call at a time, as
plugins are used to. One that hangs up, or does not answer in time, is dropped, and the call goes on
without it; an error that a plugin answers is a veto, and fails the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.concurrency import shielded
from sampan.cri.nri import Changes, NriConfig, Runtime, Updated
from sampan.cri.nri.external import ExternalPlugin
from sampan.cri.nri.inprocess import InProcessPlugin, installed
from sampan.cri.nri.launch import Launched, discover, settings_of
from sampan.cri.nri.merge import Merge
from sampan.cri.nri.methods import Plugin, wants
from sampan.cri.nri.validate import check
from sampan.errors import DeadlineExceeded, PermissionDenied, SampanError, Unavailable
from sampan.linux.fds import unix_bind, unix_connect

__all__ = ["Nri"]

log = logging.getLogger(__name__)


class Nri:
    """See the front door. Belongs to one event loop."""

    def __init__(
        self,
        runtime: Runtime,
        config: NriConfig = NriConfig(),  # noqa: B008 - immutable
        *,
        plugins: Sequence[Any] = (),
    ) -> None:
        """Prepare; `start` begins.

        Args:
          runtime: The CRI rooms.
          config: Where, how long, and what is allowed.
          plugins: In-process ones, besides those of entry points.
        """
        self._runtime = runtime
        self._config = config
        self._given = list(plugins)
        self._plugins: list[Plugin] = []
        self._launched: dict[str, Launched] = {}
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._call_lock = asyncio.Lock()
        self._gate = asyncio.Condition()
        self._changing = 0
        self._joining = False
        self._joined = asyncio.Event()

    @property
    def plugins(self) -> list[str]:
        """Labels of the plugins that have joined, in their order."""
        return [plugin.label for plugin in self._plugins]

    @property
    def active(self) -> bool:
        """Whether anybody listens: without, callers need not make messages for the events."""
        return bool(self._plugins)

    @property
    def enabled(self) -> bool:
        """Whether plugins may join; creation is checked for required ones even without any."""
        return self._config.enabled

    async def start(self) -> None:
        """Load and start plugins, tell them what is there, and listen for more.

        A plugin that fails is left out and logged; that nobody can connect is logged, too.
        """
        config = self._config
        if not config.enabled:
            return
        for plugin in [*(InProcessPlugin(one, config) for one in self._given), *installed(config)]:
            await self._start_inprocess(plugin)
        for program in discover(config.plugins):
            launched = Launched(program)
            label = program.path.name
            self._launched[label] = launched
            try:
                settings = settings_of(config.plugin_config, program.order, program.name)
                joined = await ExternalPlugin.join(
                    launched.sock,
                    config,
                    self._unsolicited,
                    index=program.order,
                    name=program.name,
                    settings=settings,
                )
                await self._join(joined)
            except SampanError as err:
                log.warning("NRI plugin %s left out: %s", label, err)
                launched.sock.close()
                await self._launched.pop(label).close()
        if config.listen:
            self._listen(config.socket)

    async def _start_inprocess(self, plugin: InProcessPlugin) -> None:
        try:
            settings = settings_of(self._config.plugin_config, plugin.index, plugin.name)
            await plugin.configure(settings)
            await self._join(plugin)
        except SampanError as err:
            log.warning("NRI plugin %s left out: %s", plugin.label, err)

    async def close(self) -> None:
        """Let all plugins go, and end those that we have started."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._config.socket)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        plugins, self._plugins = self._plugins, []
        for plugin in plugins:
            await plugin.close()
        while self._launched:
            _, launched = self._launched.popitem()
            await launched.close()
        if listener is not None:
            listener.close()

    # --- joining -------------------------------------------------------------------------

    def _listen(self, path: Path) -> None:
        if _somebody_listens(path):
            log.warning("no NRI plugins can connect: another runtime listens on %s", path)
            return
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            unix_bind(sock, str(path))
            os.chmod(path, 0o600)
            sock.listen(64)
            sock.setblocking(False)
        except OSError as err:
            sock.close()
            log.warning("no NRI plugins can connect: %s", err)
            return
        self._listener = sock
        self._keep(self._accept(sock), "nri listener")

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            self._keep(self._external(sock), "nri connection")

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _external(self, sock: socket.socket) -> None:
        pid, uid, _ = struct.unpack(
            "=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if uid not in {0, os.geteuid()}:
            sock.close()
            return
        try:
            plugin = await ExternalPlugin.join(sock, self._config, self._unsolicited, pid=pid)
            await self._join(plugin)
        except SampanError as err:
            log.warning("NRI plugin of process %d did not join: %s", pid, err)

    async def _join(self, plugin: Plugin) -> None:
        """Tell a plugin what there is, while nothing changes, and take it into the order."""
        try:
            async with self._alone():
                pods, containers = await self._runtime.everything()
                updates = await plugin.synchronize(list(pods), list(containers))
                self._plugins.append(plugin)
                self._plugins.sort(key=lambda one: one.index)
        except BaseException:
            await shielded(5, plugin.close())
            raise
        log.info("NRI plugin joined: %s", plugin.label)
        self._joined.set()
        if updates:
            await self._runtime.update(updates)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._gate:
            await self._gate.wait_for(lambda: not self._joining)
            self._joining = True
        try:
            async with self._gate:
                await self._gate.wait_for(lambda: not self._changing)
            yield
        finally:
            async with self._gate:
                self._joining = False
                self._gate.notify_all()

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """No plugin joins meanwhile: it would miss half of what happens. Not to be nested."""
        async with self._gate:
            await self._gate.wait_for(lambda: not self._joining)
            self._changing += 1
        try:
            yield
        finally:
            self._changing -= 1
            async with self._gate:
                self._gate.notify_all()

    def _drop(self, plugin: Plugin, why: SampanError) -> None:
        log.error("NRI plugin dropped: %s: %s", plugin.label, why)
        if plugin in self._plugins:
            self._plugins.remove(plugin)
        self._keep(self._let_go(plugin), "nri drop")

    async def _let_go(self, plugin: Plugin) -> None:
        await plugin.close()
        if (launched := self._launched.pop(plugin.label, None)) is not None:
            await launched.close()

    async def _unsolicited(
        self, plugin: ExternalPlugin, request: pb.UpdateContainersRequest
    ) -> Message:
        if plugin not in self._plugins:
            raise Unavailable(f"NRI plugin {plugin.label} has not joined yet")
        failed = await self._runtime.update(list(request.update)) if request.update else ()
        for eviction in request.evict:
            await self._runtime.evict(eviction.container_id, eviction.reason)
        return pb.UpdateContainersResponse(failed=failed)

    # --- telling -------------------------------------------------------------------------

    async def _call(self, plugin: Plugin, method: str, request: Message) -> Any:
        """Return a plugin's answer; None when it does not want the event, or was dropped."""
        if not wants(plugin, method):
            return None
        try:
            return await plugin.call(method, request)
        except (DeadlineExceeded, Unavailable) as err:
            self._drop(plugin, err)
            return None
        except SampanError as err:
            raise type(err)(f"NRI plugin {plugin.label} refuses {method}: {err}") from err

    async def _tell(self, method: str, request: Message) -> None:
        if self._plugins:
            async with self._call_lock:
                for plugin in tuple(self._plugins):
                    await self._call(plugin, method, request)

    async def run_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        """A pod has its namespaces and network, and no container yet."""
        await self._tell("RunPodSandbox", pb.RunPodSandboxRequest(pod=pod))

    async def update_pod_sandbox(
        self, pod: pb.PodSandbox, overhead: pb.LinuxResources, resources: pb.LinuxResources
    ) -> None:
        """A pod's resources are about to change."""
        request = pb.UpdatePodSandboxRequest(
            pod=pod, overhead_linux_resources=overhead, linux_resources=resources
        )
        await self._tell("UpdatePodSandbox", request)

    async def post_update_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        """They have changed."""
        await self._tell("PostUpdatePodSandbox", pb.PostUpdatePodSandboxRequest(pod=pod))

    async def stop_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        """A pod is being stopped."""
        await self._tell("StopPodSandbox", pb.StopPodSandboxRequest(pod=pod))

    async def remove_pod_sandbox(self, pod: pb.PodSandbox) -> None:
        """A pod is gone."""
        await self._tell("RemovePodSandbox", pb.RemovePodSandboxRequest(pod=pod))

    async def post_create_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        """A container has been created."""
        request = pb.PostCreateContainerRequest(pod=pod, container=container)
        await self._tell("PostCreateContainer", request)

    async def start_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        """A container is about to start."""
        await self._tell("StartContainer", pb.StartContainerRequest(pod=pod, container=container))

    async def post_start_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        """A container has started."""
        request = pb.PostStartContainerRequest(pod=pod, container=container)
        await self._tell("PostStartContainer", request)

    async def post_update_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        """A container's resources have changed."""
        request = pb.PostUpdateContainerRequest(pod=pod, container=container)
        await self._tell("PostUpdateContainer", request)

    async def remove_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        """A container is gone."""
        await self._tell("RemoveContainer", pb.RemoveContainerRequest(pod=pod, container=container))

    # --- asking --------------------------------------------------------------------------

    async def create_container(self, pod: pb.PodSandbox, container: pb.Container) -> Changes:
        """Ask what is to be changed about a container before it is made.

        Raises:
          InvalidArgument: Two plugins want to set the same thing.
          PermissionDenied: The configuration, or a validating plugin, does not allow it.
          FailedPrecondition: A required plugin is missing.
          SampanError: A plugin's veto.
        """
        merge = Merge(container, creating=True)
        if self._config.enabled:
            async with self._call_lock:
                plugins = tuple(self._plugins)
                for plugin in plugins:
                    request = pb.CreateContainerRequest(pod=pod, container=merge.container)
                    answer = await self._call(plugin, "CreateContainer", request)
                    if answer is not None:
                        merge.add_adjustment(answer.adjust, plugin.label)
                        merge.add_updates(answer.update, plugin.label)
                        merge.add_evictions(answer.evict)
                names = [plugin.name for plugin in self._plugins]
                check(self._config, pod, container, merge.owners, names)
                await self._validate(pod, container, merge, plugins)
        return Changes(merge.adjust, list(merge.updates.values()), merge.evict)

    async def _validate(
        self,
        pod: pb.PodSandbox,
        container: pb.Container,
        merge: Merge,
        plugins: Sequence[Plugin],
    ) -> None:
        method = "ValidateContainerAdjustment"
        request = pb.ValidateContainerAdjustmentRequest(
            pod=pod,
            container=container,
            adjust=merge.adjust,
            update=merge.updates.values(),
            owners=merge.owners.message,
            plugins=[pb.PluginInstance(name=one.name, index=one.index) for one in plugins],
        )
        for plugin in plugins:
            if not (plugin in self._plugins and wants(plugin, method)):
                continue
            answer = await self._call(plugin, method, request)
            if answer is None:
                # It was there to say no, and could not be heard.
                raise Unavailable(f"NRI plugin {plugin.label} did not validate {container.id}")
            if answer.reject:
                raise PermissionDenied(
                    f"NRI plugin {plugin.label} rejects container {container.id}: {answer.reason}"
                )

    async def update_container(
        self, pod: pb.PodSandbox, container: pb.Container, resources: pb.LinuxResources
    ) -> Updated:
        """Ask what becomes of an update; raises as `create_container` does, but for validation."""
        merge = Merge(container, resources)
        if self._plugins:
            async with self._call_lock:
                for plugin in tuple(self._plugins):
                    request = pb.UpdateContainerRequest(
                        pod=pod, container=container, linux_resources=merge.resources
                    )
                    answer = await self._call(plugin, "UpdateContainer", request)
                    if answer is not None:
                        merge.add_updates(answer.update, plugin.label)
                        merge.add_evictions(answer.evict)
        return Updated(merge.resources, list(merge.updates.values()), merge.evict)

    async def stop_container(
        self, pod: pb.PodSandbox, container: pb.Container
    ) -> list[pb.ContainerUpdate]:
        """A container is stopped, or has ended by itself; return updates to others."""
        merge = Merge(container, creating=True)
        if self._plugins:
            request = pb.StopContainerRequest(pod=pod, container=container)
            async with self._call_lock:
                for plugin in tuple(self._plugins):
                    answer = await self._call(plugin, "StopContainer", request)
                    if answer is not None:
                        merge.add_updates(answer.update, plugin.label)
        return list(merge.updates.values())


def _somebody_listens(path: Path) -> bool:
    """Whether a process accepts connections there: another runtime's plugins are not ours."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            unix_connect(sock, str(path))
        except OSError:
            return False
        return True
