"""RunPodSandbox.

name ─▶ record ─▶ namespaces ─▶ network ┐
                  shim ─────────────────┴▶ holder, if any ─▶ ready
                       any failure: what was made is undone, the record goes, the name is free
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import shielded, to_thread
from sampan.cri.sandboxes import files, holder, namespaces, network
from sampan.cri.sandboxes.stop import dismantle
from sampan.cri.store import state
from sampan.cri.store.records import Pod, pod_name
from sampan.cri.together import together
from sampan.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["run"]

log = logging.getLogger(__name__)

_UNDO_S = 60.0


async def run(cri: Cri, request: pb.RunPodSandboxRequest) -> pb.RunPodSandboxResponse:
    """Make a pod; see the module.

    Raises:
      InvalidArgument: the request cannot be met.
      AlreadyExists: its name is taken.
      NotFound: there is no such runtime handler.
    """
    config = request.config
    if not config.HasField("metadata") or not config.metadata.name:
        raise InvalidArgument("sandbox config must include metadata with a name")
    if cri.settings.handler(request.runtime_handler) is None:
        raise NotFound(f"no runtime for {request.runtime_handler!r} is configured")
    namespaces.check(config)
    files.hostname_of(config)
    made = await cri.flights.join(
        pod_name(config.metadata),
        request.SerializeToString(deterministic=True),
        lambda: _create(cri, request),
    )
    return pb.RunPodSandboxResponse(pod_sandbox_id=made)


async def _create(cri: Cri, request: pb.RunPodSandboxRequest) -> str:
    pod = Pod(
        id=secrets.token_hex(32),
        config=request.config,
        handler=request.runtime_handler,
        created_ns=time.time_ns(),
    )
    pod.holder = holder.needed(cri, pod)
    cri.pod_names.reserve(pod.name, pod.id)
    try:
        await cri.engine.metadata.sandboxes.create(pod.row())
        try:
            async with cri.plugged.changing():
                await _build(cri, pod)
                await cri.plugged.run_pod(pod)
                pod.ready = True
                cri.pods[pod.id] = pod
        except BaseException:
            await shielded(_UNDO_S, _undo(cri, pod))
            raise
    except BaseException:
        cri.pod_names.release(pod.name, pod.id)
        raise
    cri.watch_pod(pod)
    await cri.events.pod(pb.CONTAINER_CREATED_EVENT, pod)
    await cri.events.pod(pb.CONTAINER_STARTED_EVENT, pod)
    return pod.id


async def _build(cri: Cri, pod: Pod) -> None:
    folder = cri.pod_folder(pod.id)
    await to_thread(files.write, folder, pod.config)
    await together(cri.pod_shims.start(pod.id), _connect(cri, pod))
    linux = pod.config.linux
    if linux.HasField("resources") or linux.HasField("overhead"):
        await to_thread(cri.limit_pod, pod)
    if pod.holder:
        await holder.start(cri, pod)
    await to_thread(state.write, folder / "status.json", status(pod))


async def _connect(cri: Cri, pod: Pod) -> None:
    await namespaces.pin(cri, pod)
    if not pod.host_network:
        pod.ips = await network.set_up(cri, pod)


def status(pod: Pod) -> dict[str, object]:
    """Return what is kept in the pod's status file."""
    return {"ips": list(pod.ips), "netns": pod.netns, "holder_pid": pod.holder_pid}


async def _undo(cri: Cri, pod: Pod) -> None:
    try:
        await dismantle(cri, pod)
        await to_thread(cri.remove_folder, cri.pod_folder(pod.id))
    except Exception:
        # The record stays: the pod is shown as not ready, and removing it tries again.
        log.exception("a pod that failed is left behind: sandbox=%s", pod.id)
        cri.pods[pod.id] = pod
        return
    await cri.engine.metadata.sandboxes.delete(pod.id)
