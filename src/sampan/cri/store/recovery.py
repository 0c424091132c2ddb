"""What a new daemon finds: pods and containers of the last one, some of which have ended since.

row ─▶ its status file ─▶ does its shim live? ─▶ ready and watched, or not ready
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.containers.volumes import GC_ROOT, KEPT, unmount
from sampan.cri.containers.watch import UNKNOWN_STATUS, finish, watch
from sampan.cri.sandboxes.namespaces import unmount_pod
from sampan.cri.store import state
from sampan.cri.store.records import Container, Pod
from sampan.cri.together import together
from sampan.errors import NotFound, SampanError
from sampan.runtime import Exit, Status

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["recover"]

log = logging.getLogger(__name__)


async def recover(cri: Cri) -> None:
    """Load every pod and container, and see how each is."""
    for row in await cri.engine.metadata.sandboxes.list():
        pod = Pod.of(row)
        if pod is not None:
            cri.pods[pod.id] = pod
            cri.pod_names.reserve(pod.name, pod.id)
    for record in await cri.engine.metadata.containers.list():
        container = Container.of(record)
        if container is not None:
            cri.containers[container.id] = container
            cri.container_names.reserve(container.name, container.id)
    await together(*(_pod(cri, one) for one in cri.pods.values()))
    await together(*(_container(cri, one) for one in cri.containers.values()))
    await _sweep(cri)


async def _pod(cri: Cri, pod: Pod) -> None:
    values = await to_thread(state.read, cri.pod_folder(pod.id) / "status.json")
    pod.ips = tuple(values.get("ips", ()))
    pod.netns = str(values.get("netns", ""))
    pod.holder_pid = int(values.get("holder_pid", 0))
    # A pod without a status file was never finished, and nobody was told its id.
    pod.ready = bool(values) and await cri.pod_shims.ready(pod.id)
    if pod.ready:
        cri.watch_pod(pod)


async def _container(cri: Cri, container: Container) -> None:
    values = await to_thread(state.read, cri.container_folder(container.id) / "status.json")
    container.recall(values)
    if container.state == pb.CONTAINER_EXITED:
        container.ended.set()
        return
    try:
        task = await cri.engine.tasks.state(container.id)
    except NotFound:
        if container.state == pb.CONTAINER_RUNNING or (not values and container.started_ns):
            await _lost(cri, container)
        elif cri.pods.get(container.pod_id) is None or not cri.pods[container.pod_id].ready:
            # Created in a pod that is gone, as after a reboot: it can never be started.
            await _lost(cri, container)
        return
    except SampanError as err:
        log.warning("state of a container is unknown: container=%s: %s", container.id, err)
        container.state = pb.CONTAINER_UNKNOWN
        return
    container.pid = task.pid
    if task.status is Status.STOPPED:
        ended = Exit(task.pid, task.exit_status, task.exited_at_ns)
        await finish(cri, container, ended)
    elif task.status is Status.CREATED:
        # Its start was cut short: kubelet sees a created container, and may start it.
        try:
            await cri.engine.tasks.delete(container.id, force=True)
        except SampanError:
            log.exception("half-started task stays: container=%s", container.id)
        container.state, container.pid = pb.CONTAINER_CREATED, 0
    else:
        container.state = pb.CONTAINER_RUNNING
        container.started_ns = container.started_ns or time.time_ns()
        watch(cri, container)


async def _lost(cri: Cri, container: Container) -> None:
    container.state = pb.CONTAINER_EXITED
    container.exit_code = UNKNOWN_STATUS
    container.finished_ns = time.time_ns()
    container.reason = "Unknown"
    container.message = "the container ended while nobody watched"
    container.pid = 0
    container.ended.set()
    path = cri.container_folder(container.id) / "status.json"
    await to_thread(state.write, path, container.status())


async def _sweep(cri: Cri) -> None:
    """Remove what creations that were cut short have left; their rows are gone or never came."""
    snapshots = cri.engine.metadata.snapshotter(cri.settings.images.snapshotter)
    for top, known in (
        (cri.state / "containers", cri.containers),
        (cri.state / "sandboxes", cri.pods),
    ):
        for folder in await to_thread(_children, top):
            if folder.name in known:
                continue
            try:
                await to_thread(_clear, folder)
                await to_thread(cri.remove_folder, folder)
                with suppress(NotFound):
                    await snapshots.remove(folder.name)
            except (OSError, SampanError):
                log.exception("a leftover stays: %s", folder)
    for folder in await to_thread(_children, cri.root / "containers"):
        if folder.name not in cri.containers:
            await to_thread(cri.remove_folder, folder)
    # Views are kept by a label alone, so nobody else collects them.
    async for info in snapshots.walk([f'labels."{GC_ROOT}"']):
        owner = info.name.partition("-image-")[0]
        if info.labels[GC_ROOT] in KEPT and owner not in cri.containers and owner not in cri.pods:
            with suppress(NotFound):
                await snapshots.remove(info.name)


def _children(folder: Path) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if one.is_dir()]
    except FileNotFoundError:
        return []


def _clear(folder: Path) -> None:
    unmount(folder)
    unmount_pod(folder)
