"""A whole pod: CheckpointPod and RestorePod (KEP-5823).

<output path>/pod.json            version, the pod's request, its handler, names of containers
              <name>.tar          an archive of each container
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import shielded, to_thread
from sampan.cri.checkpoints import archive
from sampan.cri.checkpoints.container import config_in, dump
from sampan.cri.containers import create
from sampan.cri.sandboxes import run, stop
from sampan.cri.store.records import Container
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound, SampanError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.cri.core import Cri

__all__ = ["checkpoint_pod", "restore_pod"]

log = logging.getLogger(__name__)

_VERSION: Final = 1
_UNDO_S: Final = 120.0


async def checkpoint_pod(cri: Cri, request: pb.CheckpointPodRequest) -> pb.CheckpointPodResponse:
    """Dump all running containers of a pod as of one moment; they run on.

    Raises:
      NotFound: there is no such pod, or no such container in it.
      InvalidArgument: an unknown option, or a path that is not absolute.
      FailedPrecondition: the pod is not ready, or CRIU cannot dump a container.
    """
    _no_options(request.options)
    pod = cri.pod(request.pod_sandbox_id)
    folder = Path(request.output_path)
    if not folder.is_absolute():
        raise InvalidArgument(f"output_path {request.output_path!r} must be an absolute path")
    async with pod.lock, AsyncExitStack() as stack:
        if not pod.ready:
            raise FailedPrecondition(f"sandbox {pod.id} is not running")
        chosen = _chosen(cri, pod.id, list(request.container_ids))
        for one in chosen:
            await stack.enter_async_context(one.lock)
        # Frozen together, so that no container sees another one's future.
        paused: list[Container] = []
        try:
            for one in chosen:
                await cri.engine.tasks.pause(one.id)
                paused.append(one)
            await to_thread(folder.mkdir, 0o700, True, True)
            for one in chosen:
                await dump(cri, one, folder / f"{one.config.metadata.name}.tar")
            values = {
                "version": _VERSION,
                "config": base64.b64encode(pod.config.SerializeToString()).decode(),
                "handler": pod.handler,
                "containers": [one.config.metadata.name for one in chosen],
            }
            await to_thread(_write, folder / "pod.json", values)
        finally:
            await shielded(_UNDO_S, _thaw(cri, paused))
    return pb.CheckpointPodResponse()


def _chosen(cri: Cri, pod_id: str, ids: list[str]) -> list[Container]:
    running = [one for one in cri.containers_of(pod_id) if one.running]
    if not ids:
        return running
    known = {one.id: one for one in running}
    for key in ids:
        if key not in known:
            raise NotFound(f"container {key!r} does not run in sandbox {pod_id}")
    return [known[key] for key in ids]


async def _thaw(cri: Cri, paused: list[Container]) -> None:
    for one in paused:
        try:
            await cri.engine.tasks.resume(one.id)
        except SampanError:
            log.exception("a container stays frozen after its checkpoint: id=%s", one.id)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as out:
        json.dump(values, out)


def _no_options(options: Mapping[str, str]) -> None:
    if options:
        raise InvalidArgument(f"unknown option {next(iter(sorted(options)))!r}: there are none")


async def restore_pod(cri: Cri, request: pb.RestorePodRequest) -> pb.RestorePodResponse:
    """Make a pod and its containers from a folder; StartContainer lets each go on.

    Raises:
      NotFound: there is no such checkpoint, or an image is not here.
      InvalidArgument: an unknown option, or a container that is not in the checkpoint.
    """
    _no_options(request.options)
    folder = Path(request.checkpoint_path)
    values = await to_thread(_read, folder)
    config = request.config
    if not config.HasField("metadata"):
        config = pb.PodSandboxConfig.FromString(base64.b64decode(values["config"]))
    given = {one.metadata.name: one for one in request.container_configs}
    if unknown := set(given) - set(values["containers"]):
        raise InvalidArgument(f"container {min(unknown)!r} is not in the checkpoint")
    made = await run.run(
        cri,
        pb.RunPodSandboxRequest(
            config=config, runtime_handler=request.runtime_handler or values["handler"]
        ),
    )
    answer = pb.RestorePodResponse(pod_sandbox_id=made.pod_sandbox_id)
    try:
        for name in values["containers"]:
            path = str(folder / f"{name}.tar")
            again = await to_thread(_config_of, name, path, given)
            created = await create.create(
                cri,
                pb.CreateContainerRequest(
                    pod_sandbox_id=made.pod_sandbox_id, config=again, sandbox_config=config
                ),
            )
            answer.restored_containers.add(name=name, container_id=created.container_id)
    except BaseException:
        await shielded(_UNDO_S, _undo(cri, made.pod_sandbox_id))
        raise
    return answer


def _config_of(name: str, path: str, given: Mapping[str, pb.ContainerConfig]) -> pb.ContainerConfig:
    """Return what restores a container: as the caller wants it, or as it was."""
    wanted = given.get(name) or config_in(archive.read(path))
    if wanted is None:
        raise InvalidArgument(f"checkpoint of {name!r} needs a container config")
    again = pb.ContainerConfig()
    again.CopyFrom(wanted)
    again.image.image = path
    return again


async def _undo(cri: Cri, pod_id: str) -> None:
    with suppress(SampanError, asyncio.CancelledError):
        await stop.remove(cri, pb.RemovePodSandboxRequest(pod_sandbox_id=pod_id))


def _read(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "pod.json").read_bytes())
    except FileNotFoundError as err:
        raise NotFound(f"no checkpoint of a pod in {folder}") from err
    except (OSError, ValueError) as err:
        raise InvalidArgument(f"checkpoint {folder}: pod.json cannot be read: {err}") from err
    if values.get("version") != _VERSION:
        raise InvalidArgument(f"checkpoint {folder} is of version {values.get('version')}")
    found: dict[str, Any] = values
    return found
