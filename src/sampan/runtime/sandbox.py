"""Pods' shims: one process for all containers of a pod, started before the first of them.

pods = PodShims(state, shims)
await pods.start("p1")                                    # fork, CreateSandbox, StartSandbox
await tasks.create("c1", spec=..., pod=pods.bundle("p1"))
await pods.stop("p1")                                     # all its containers end
await pods.delete("p1")                                   # the shim ends, the bundle goes

<state>/io.containerd.sandbox.controller.v1.shim/<namespace>/<id>/
  config.json  runtime  address  shim.pid      as a task's bundle has them; rootfs stays empty
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final, TypeVar

from sampan import context
from sampan.concurrency import shielded, to_thread
from sampan.errors import DeadlineExceeded, NotFound, SampanError, Unavailable
from sampan.rpc.messages import sandbox as pb
from sampan.rpc.wire import Message
from sampan.runtime.bundle import Bundle, Lock
from sampan.runtime.burial import clean_up
from sampan.runtime.shims import Shim, Shims

__all__ = ["PODS", "PodBundle", "PodShims"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

PODS: Final = "io.containerd.sandbox.controller.v1.shim"
_STOP_S: Final = 30.0
_UNDO_S: Final = 30.0


class PodBundle(Bundle):
    """`<state>/io.containerd.sandbox.controller.v1.shim/<namespace>/<id>`."""

    KIND = PODS


class PodShims:
    """The pods' shims below one state folder, in the namespace of the request."""

    def __init__(self, state: Path, shims: Shims) -> None:
        self._state = state
        self._shims = shims

    def bundle(self, id: str) -> PodBundle:
        """Return where the pod's shim is found."""
        return PodBundle(self._state, context.namespace(), id)

    async def start(self, id: str, *, spec: bytes = b"{}") -> int:
        """Start a shim for a pod; return its pid.

        Raises:
          AlreadyExists: the pod has one.
          Unavailable: none could be started.
        """
        bundle = self.bundle(id)
        with Lock() as lock:
            await to_thread(bundle.create, spec, lock, {"runtime": b""})
            try:
                shim = await self._shims.start(bundle)
                await self._ask(
                    shim,
                    "CreateSandbox",
                    pb.CreateSandboxRequest(sandbox_id=id, bundle_path=str(bundle.path)),
                    pb.CreateSandboxResponse,
                )
                started = await self._ask(
                    shim,
                    "StartSandbox",
                    pb.StartSandboxRequest(sandbox_id=id),
                    pb.StartSandboxResponse,
                )
            except BaseException:
                await shielded(_UNDO_S, self._shims.clean_up(bundle))
                raise
        return started.pid

    async def ready(self, id: str) -> bool:
        """Tell whether the pod's shim is there and takes containers."""
        try:
            shim = await self._shims.connect(self.bundle(id))
            request = pb.SandboxStatusRequest(sandbox_id=id)
            status = await self._ask(shim, "SandboxStatus", request, pb.SandboxStatusResponse)
        except SampanError as err:
            log.debug("pod has no shim: sandbox=%s: %s", id, err)
            return False
        return status.state == "SANDBOX_READY"

    async def gone(self, id: str) -> None:
        """Wait until the pod's shim has ended, whyever; without one return at once."""
        try:
            shim = await self._shims.connect(self.bundle(id))
        except SampanError:
            return
        await asyncio.shield(shim.gone)

    async def stop(self, id: str) -> None:
        """End what still runs in the pod; without a shim nothing does."""
        try:
            shim = await self._shims.connect(self.bundle(id))
            request = pb.StopSandboxRequest(sandbox_id=id)
            await self._ask(shim, "StopSandbox", request, pb.StopSandboxResponse, _STOP_S)
        except (NotFound, Unavailable) as err:
            log.debug("pod had no shim to stop: sandbox=%s: %s", id, err)

    async def delete(self, id: str) -> None:
        """End the pod's shim, by force if it does not answer, and remove its bundle; idempotent."""
        bundle = self.bundle(id)
        with Lock() as lock:
            try:
                await to_thread(lock.take, bundle.path, _STOP_S)
            except FileNotFoundError:
                return
            try:
                shim = await self._shims.connect(bundle)
                shim.leaving = True
                request = pb.ShutdownSandboxRequest(sandbox_id=id)
                await self._ask(shim, "ShutdownSandbox", request, pb.ShutdownSandboxResponse)
            except (NotFound, Unavailable) as err:
                log.debug("pod had no shim to end: sandbox=%s: %s", id, err)
                await self._clean_up(bundle)
            except DeadlineExceeded:
                await self._clean_up(bundle)
            self._shims.forget(bundle)
            await to_thread(bundle.remove)

    async def _clean_up(self, bundle: PodBundle) -> None:
        await to_thread(clean_up, bundle, self._shims.zygote_blocking, self._state)

    async def _ask(
        self, shim: Shim, method: str, request: Message, answer: type[M], timeout_s: float = 10.0
    ) -> M:
        return await shim.call(method, request, answer, timeout_s=timeout_s, service=pb.SERVICE)
