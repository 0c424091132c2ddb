"""The sandboxer `shim`: a sandbox is a shim that speaks the Sandbox service, ours or a foreign one.

    create ─▶ bundle, shim, CreateSandbox      start ─▶ StartSandbox; then it takes containers
    stop   ─▶ its containers end               shutdown ─▶ the shim ends, the bundle goes

Its bundle is where `PodShims` has those of CRI's pods; a task joins by it. A call that fails half
way takes the shim with it, as containerd does: the sandbox can be created anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from sampan import context
from sampan.concurrency import shielded, to_thread
from sampan.errors import (
    AlreadyExists,
    DeadlineExceeded,
    NotFound,
    SampanError,
    Unavailable,
    Unimplemented,
    Unknown,
)
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.model.platform import Platform
from sampan.rpc.messages import sandbox as pb
from sampan.rpc.messages import types
from sampan.rpc.messages.wellknown import Any, Timestamp
from sampan.rpc.wire import Message
from sampan.runtime import Exit
from sampan.runtime.bundle import Lock
from sampan.runtime.burial import clean_up
from sampan.runtime.sandbox import PodBundle
from sampan.runtime.shims import Shim, Shims

__all__ = ["SandboxController", "SandboxStatus", "Started"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

_CALL_S: Final = 10.0
_CREATE_S: Final = 60.0
_STOP_S: Final = 10.0
_UNDO_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Started:
    """A sandbox that takes containers."""

    pid: int
    created_at_ns: int
    spec: Opaque | None = None


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """How a sandbox is; one whose shim is not there any more has ended."""

    id: str
    pid: int = 0
    state: str = ""
    """`SANDBOX_READY`, `SANDBOX_NOTREADY`, or a foreign shim's own word; empty when it is gone."""
    info: Mapping[str, str] = field(default_factory=dict)
    created_at_ns: int = 0
    exited_at_ns: int = 0
    extra: Opaque | None = None
    address: str = ""
    """Of the shim's socket."""
    version: int = 0
    """Of the Task service that it speaks."""


class SandboxController:
    """The sandboxes below one state folder, in the namespace of the request."""

    def __init__(self, state: Path, shims: Shims) -> None:
        self._state = state
        self._shims = shims

    def bundle(self, id: str) -> PodBundle:
        """Return where a sandbox's shim is found; there need not be one."""
        return PodBundle(self._state, context.namespace(), id)

    async def create(
        self,
        id: str,
        *,
        runtime: str = "",
        runtime_options: Opaque | None = None,
        spec: bytes = b"",
        rootfs: Sequence[Mount] = (),
        options: Opaque | None = None,
        netns_path: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Start the shim and let it make the sandbox.

        Args:
          id: Of the sandbox.
          runtime: Name of the shim; empty is ours.
          runtime_options: For the shim's start.
          spec: config.json of the bundle.
          rootfs: Mounts that the shim makes for itself.
          options: For CreateSandbox.
          netns_path: Network namespace that the containers shall join.
          annotations: Carried to the shim.

        Raises:
          AlreadyExists: there is such a sandbox.
          Unavailable: no shim could be started.
          SampanError: as the shim answers.
        """
        bundle = self.bundle(id)
        if bundle.exists():
            raise AlreadyExists(f"sandbox {id} already running: already exists")
        packed = _any(runtime_options)
        with Lock() as lock:
            await to_thread(bundle.create, spec or b"{}", lock, {"runtime": runtime.encode()})
            try:
                shim = await self._shims.start(
                    bundle, runtime, options=bytes(packed) if packed else b""
                )
                request = pb.CreateSandboxRequest(
                    sandbox_id=id,
                    bundle_path=str(bundle.path),
                    rootfs=[_mount(one) for one in rootfs],
                    options=_any(options),
                    netns_path=netns_path,
                    annotations=dict(annotations or {}),
                )
                await _ask(shim, "CreateSandbox", request, pb.CreateSandboxResponse, _CREATE_S)
            except SampanError as err:
                await shielded(_UNDO_S, self._shims.clean_up(bundle))
                raise type(err)(f"failed to create sandbox {id}: {err}") from err
            except BaseException:
                await shielded(_UNDO_S, self._shims.clean_up(bundle))
                raise

    async def start(self, id: str) -> Started:
        """Start it.

        Raises:
          Unknown: there is none; containerd gives this one no better class.
          SampanError: as the shim answers; the sandbox is gone then.
        """
        bundle = self.bundle(id)
        try:
            shim = await self._shims.connect(bundle)
        except (NotFound, Unavailable) as err:
            raise Unknown(f'unable to find sandbox "{id}"') from err
        request = pb.StartSandboxRequest(sandbox_id=id)
        try:
            answer = await _ask(shim, "StartSandbox", request, pb.StartSandboxResponse, _CREATE_S)
        except SampanError as err:
            await shielded(_UNDO_S, self._remove(id))
            raise type(err)(f"failed to start sandbox {id}: {err}") from err
        spec = answer.spec
        return Started(
            answer.pid,
            _ns(answer.created_at),
            Opaque(spec.type_url, spec.value) if spec is not None else None,
        )

    async def platform(self, id: str) -> Platform:
        """Return what its containers run on."""
        request = pb.PlatformRequest(sandbox_id=id)
        found = (await self._call(id, "Platform", request, pb.PlatformResponse)).platform
        if found is None:
            return Platform()
        return Platform(os=found.os, architecture=found.architecture, variant=found.variant)

    async def stop(self, id: str, timeout_s: int = 0) -> None:
        """End its containers; one that is gone is stopped."""
        request = pb.StopSandboxRequest(sandbox_id=id, timeout_secs=timeout_s)
        try:
            await self._call(
                id, "StopSandbox", request, pb.StopSandboxResponse, timeout_s + _STOP_S
            )
        except (NotFound, Unavailable) as err:
            log.debug("sandbox had stopped: sandbox=%s: %s", id, err)

    async def wait(self, id: str) -> Exit:
        """Wait for its end, without deadline.

        Raises:
          NotFound: there is none.
          Unavailable: its shim died.
        """
        request = pb.WaitSandboxRequest(sandbox_id=id)
        answer = await self._call(id, "WaitSandbox", request, pb.WaitSandboxResponse, None)
        return Exit(0, answer.exit_status, _ns(answer.exited_at))

    async def status(self, id: str, *, verbose: bool = False) -> SandboxStatus:
        """Tell how it is; one that is not there has ended."""
        bundle = self.bundle(id)
        request = pb.SandboxStatusRequest(sandbox_id=id, verbose=verbose)
        try:
            found = await self._call(id, "SandboxStatus", request, pb.SandboxStatusResponse)
        except NotFound:
            return SandboxStatus(id, exited_at_ns=time.time_ns())
        extra = found.extra
        return SandboxStatus(
            id,
            found.pid,
            found.state,
            dict(found.info),
            _ns(found.created_at),
            _ns(found.exited_at),
            Opaque(extra.type_url, extra.value) if extra is not None else None,
            bundle.read("address"),
            int(bundle.read("task-version") or 2),
        )

    async def shutdown(self, id: str) -> None:
        """End the shim and everything in it.

        Raises:
          NotFound: there is none.
        """
        self._require(id)
        await self._remove(id)

    async def metrics(self, id: str) -> types.Metric | None:
        """Return its figures, if the shim gives any."""
        request = pb.SandboxMetricsRequest(sandbox_id=id)
        answer = await self._call(id, "SandboxMetrics", request, pb.SandboxMetricsResponse)
        return answer.metrics

    async def update(self, id: str) -> None:
        """Refuse: no shim has the call.

        Raises:
          NotFound: there is none.
          Unimplemented: there is one.
        """
        self._require(id)
        raise Unimplemented(f"failed to update sandbox {id}: its shim has no UpdateSandbox")

    def _require(self, id: str) -> None:
        if not self.bundle(id).exists():
            raise NotFound(f"sandbox {id}: not found")

    async def _remove(self, id: str) -> None:
        bundle = self.bundle(id)
        with Lock() as lock:
            try:
                await to_thread(lock.take, bundle.path, _UNDO_S)
            except FileNotFoundError:
                return
            try:
                shim = await self._shims.connect(bundle)
                shim.leaving = True
                request = pb.ShutdownSandboxRequest(sandbox_id=id)
                await _ask(shim, "ShutdownSandbox", request, pb.ShutdownSandboxResponse, _STOP_S)
            except (NotFound, Unavailable, DeadlineExceeded, Unimplemented) as err:
                log.debug("sandbox is ended by force: sandbox=%s: %s", id, err)
            await to_thread(clean_up, bundle, self._shims.zygote_blocking, self._state)
            self._shims.forget(bundle)
            await to_thread(bundle.remove)

    async def _call(
        self,
        id: str,
        method: str,
        request: Message,
        answer: type[M],
        timeout_s: float | None = _CALL_S,
    ) -> M:
        try:
            shim = await self._shims.connect(self.bundle(id))
        except NotFound as err:
            raise NotFound(f"sandbox {id}: not found") from err
        return await _ask(shim, method, request, answer, timeout_s)


async def _ask(
    shim: Shim, method: str, request: Message, answer: type[M], timeout_s: float | None
) -> M:
    return await shim.call(method, request, answer, timeout_s=timeout_s, service=pb.SERVICE)


def _any(value: Opaque | None) -> Any | None:
    if value is None or not (value.type_url or value.value):
        return None
    return Any(type_url=value.type_url, value=value.value)


def _mount(mount: Mount) -> types.Mount:
    return types.Mount(
        type=mount.type, source=mount.source, target=mount.target, options=list(mount.options)
    )


def _ns(when: Timestamp | None) -> int:
    return when.seconds * 1_000_000_000 + when.nanos if when is not None else 0
