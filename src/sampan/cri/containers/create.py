"""CreateContainer: a snapshot, a config.json, a record; nothing runs yet."""

from __future__ import annotations

import logging
import os
import secrets
import signal as signals
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import shielded, to_thread
from sampan.cri.checkpoints import archive
from sampan.cri.checkpoints.container import apply_diff, opened
from sampan.cri.containers import volumes
from sampan.cri.containers.signals import stop_signal_of
from sampan.cri.images.pull import unpack
from sampan.cri.images.store import Found
from sampan.cri.spec.annotations import annotations_of
from sampan.cri.spec.build import Parts, build, dumps, user_in
from sampan.cri.spec.namespaces import mappings_of, namespaces_of
from sampan.cri.store.records import Container, Pod, container_name
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound, SampanError
from sampan.model.mounts import Mount
from sampan.model.runtime.spec import Spec
from sampan.rpc.messages import runc
from sampan.storage.detached import open_mounts
from sampan.storage.snapshots import LABEL_GIDMAPPING, LABEL_UIDMAPPING

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.engine.cri import RuntimeHandler

__all__ = ["create"]

log = logging.getLogger(__name__)

_UNDO_S = 60.0


async def create(cri: Cri, request: pb.CreateContainerRequest) -> pb.CreateContainerResponse:
    """Make a container in a pod; see the module.

    Raises:
      NotFound: the pod or the image is not there.
      FailedPrecondition: the pod does not run.
      AlreadyExists: the name is taken.
      InvalidArgument: the request contradicts itself.
    """
    config = request.config
    if not config.HasField("metadata") or not config.metadata.name:
        raise InvalidArgument("container config must include metadata with a name")
    pod = cri.pod(request.pod_sandbox_id)
    _check_ready(pod)
    made = await cri.flights.join(
        container_name(config.metadata, pod.config.metadata),
        request.SerializeToString(deterministic=True),
        lambda: _create(cri, pod, config),
    )
    return pb.CreateContainerResponse(container_id=made)


def _check_ready(pod: Pod) -> None:
    if not pod.ready:
        raise FailedPrecondition(f"sandbox {pod.id} is not running: no container can be made in it")


async def _create(cri: Cri, pod: Pod, config: pb.ContainerConfig) -> str:
    key = secrets.token_hex(32)
    name = container_name(config.metadata, pod.config.metadata)
    cri.container_names.reserve(name, key)
    try:
        image, folder = await _image(cri, config, key)
        while True:
            try:
                container = await _build(cri, pod, config, key, image, folder)
                async with cri.plugged.changing():
                    await cri.plugged.create(pod, container)
                await cri.engine.metadata.containers.create(container.row())
                # Until here the snapshot was nobody's, and a collection may have taken it. A look
                # costs less than a lease's two transactions.
                if not await _has_root(cri, container):
                    await cri.engine.metadata.containers.delete(key)
                    continue
                # Who stops the pod has said so before looking for its containers: either they find
                # this one, or we see that they were here.
                _check_ready(pod)
                cri.containers[key] = container
                break
            except BaseException:
                await shielded(_UNDO_S, _undo(cri, key))
                raise
    except BaseException:
        cri.container_names.release(name, key)
        raise
    await cri.plugged.created(pod, container)
    await cri.events.container(pb.CONTAINER_CREATED_EVENT, container)
    return key


async def _image(cri: Cri, config: pb.ContainerConfig, key: str) -> tuple[Found, Path | None]:
    """Return the image of the root, and the folder of a checkpoint that the name stands for."""
    name = config.image.image
    if not archive.is_archive(name):
        return await cri.images.get(name), None
    found = await opened(name)
    image = await cri.images.find(found.image)
    image = image or await cri.images.get(str(found.config.get("rootfsImageName", "")))
    folder = cri.container_root(key) / "restore"
    try:
        await to_thread(archive.unpack, name, folder)
    except BaseException:
        await shielded(_UNDO_S, to_thread(cri.remove_folder, cri.container_root(key)))
        raise
    return image, folder


async def _has_root(cri: Cri, container: Container) -> bool:
    try:
        await cri.engine.metadata.snapshotter(container.snapshotter).stat(container.id)
    except NotFound:
        log.info("a collection took the root of a container: made again: %s", container.id)
        return False
    return True


async def _build(
    cri: Cri,
    pod: Pod,
    config: pb.ContainerConfig,
    id: str,
    image: Found,
    restore: Path | None,
) -> Container:
    handler = cri.settings.handler(pod.handler)
    if handler is None:
        raise NotFound(f"no runtime for {pod.handler!r} is configured")
    namespaces = namespaces_of(cri, pod, config.linux.security_context.namespace_options)
    snapshotter = handler.snapshotter or cri.settings.images.snapshotter
    mounts = await prepare_root(cri, pod, image, id, snapshotter)
    if restore is not None and (restore / archive.DIFF).exists():
        await apply_diff(cri, restore / archive.DIFF, mounts)
    views, image_mounts = await volumes.of_images(cri, pod, config, id)
    parts = partial(
        Parts,
        pod=pod,
        image=image.config,
        settings=cri.settings.runtime,
        handler=handler,
        folder=cri.pod_folder(pod.id),
        namespaces=namespaces,
        mappings=mappings_of(pod),
        cgroups_path=cri.cgroup_of(pod, id),
        annotations=annotations_of(pod, config, config.image.image, handler),
        image_mounts=image_mounts,
    )
    defined = (
        () if cri.settings.runtime.ignore_image_defined_volumes else image.config.volumes or ()
    )
    folder = cri.container_root(id) / "volumes"

    def work() -> Spec:
        root_fd = open_mounts([mount for mount in mounts if not mount.target])
        try:
            made = volumes.of_config(config, sorted(defined), folder, root_fd, mappings_of(pod))
            return build(config, parts(root_fd=root_fd, volumes=made))
        finally:
            os.close(root_fd)

    spec = await to_thread(work)
    return Container(
        id=id,
        pod_id=pod.id,
        pod_meta=pod.config.metadata,
        config=config,
        created_ns=time.time_ns(),
        image_id=image.id,
        image_ref=image.reference(),
        log_path=_log_path(pod, config),
        snapshotter=snapshotter,
        stop_signal=stop_signal_of(config, image.config) or int(signals.SIGTERM),
        user=user_in(spec),
        views=views,
        restored_from=str(restore / archive.IMAGES) if restore is not None else "",
        runtime=handler.runtime_path or handler.runtime_type,
        options=_options(handler),
        spec=dumps(spec),
    )


def _log_path(pod: Pod, config: pb.ContainerConfig) -> str:
    if not pod.config.log_directory or not config.log_path:
        return ""
    return os.path.join(pod.config.log_directory, config.log_path)


def _options(handler: RuntimeHandler) -> bytes:
    wanted = handler.runc_options()
    options = runc.Options(
        binary_name=wanted.binary_name,
        root=wanted.root,
        systemd_cgroup=wanted.systemd_cgroup,
        shim_cgroup=wanted.shim_cgroup,
        no_new_keyring=wanted.no_new_keyring,
        no_pivot_root=wanted.no_pivot_root,
        io_uid=wanted.io_uid,
        io_gid=wanted.io_gid,
    )
    return bytes(options)


async def prepare_root(
    cri: Cri,
    pod: Pod,
    image: Found,
    key: str,
    snapshotter: str,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Sequence[Mount]:
    """Prepare a snapshot on an image, unpacking it if that was not done; return its mounts."""
    snapshots = cri.engine.metadata.snapshotter(snapshotter)
    labels = {**_map_labels(pod), **labels}
    try:
        return await snapshots.prepare(key, image.chain, labels=labels)
    except NotFound:
        await unpack(cri, image.content.manifest)
        return await snapshots.prepare(key, image.chain, labels=labels)


def _map_labels(pod: Pod) -> dict[str, str]:
    uids, gids = mappings_of(pod)
    if not uids:
        return {}

    def text(maps: tuple[object, ...]) -> str:
        return ",".join(f"{m.container_id}:{m.host_id}:{m.size}" for m in maps)  # type: ignore[attr-defined]

    return {LABEL_UIDMAPPING: text(uids), LABEL_GIDMAPPING: text(gids)}


async def _undo(cri: Cri, id: str) -> None:
    snapshots = cri.engine.metadata.snapshotter(cri.settings.images.snapshotter)
    with suppress(NotFound):
        await cri.engine.metadata.containers.delete(id)
    with suppress(NotFound):
        await snapshots.remove(id)
    await to_thread(volumes.unmount, cri.container_folder(id))
    await volumes.drop_views(cri, id)
    for folder in (cri.container_folder(id), cri.container_root(id)):
        try:
            await to_thread(cri.remove_folder, folder)
        except (OSError, SampanError):
            log.exception("a folder of a container that was not made stays: %s", folder)
