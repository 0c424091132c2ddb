"""Making a container: root, config.json, record; and its task."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sampan.client import host
from sampan.client.asked import settled
from sampan.client.containers import LABEL_NAME, Folder, new_id
from sampan.client.networking import Networking, attach, release
from sampan.client.spec.build import build
from sampan.client.spec.request import Request
from sampan.client.sweeping import LABEL_REMOVE, sweep
from sampan.concurrency import shielded, to_thread
from sampan.errors import NotFound, SampanError
from sampan.metadata import Container, Runtime
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.runtime import Stdio

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.model.image import ContainerConfig

__all__ = ["SPEC_TYPE", "Created", "Root", "create", "root_mounts", "root_of", "start_task"]

SPEC_TYPE: Final = "types.containerd.io/opencontainers/runtime-spec/1/Spec"


@dataclass(frozen=True, slots=True)
class Created:
    """A container that was just made."""

    container: Container
    name: str
    mounts: list[Mount]
    warning: str = ""
    folder: Folder = field(kw_only=True)
    owner_fd: int = -1
    """With --rm: while it is open the container is ours; see `sweeping`."""


@dataclass(frozen=True, slots=True)
class Root:
    """A prepared root file system: the snapshot whose key is the container's id."""

    mounts: list[Mount]
    snapshotter: str
    config: ContainerConfig | None = None
    """Of the image."""
    warning: str = ""


async def root_of(client: Client, image: str, key: str) -> Root:
    """Prepare the root of container `key` upon `image`, or upon `host:`.

    Raises:
      NotFound: no such image here.
    """
    if image == host.HOST:
        made = await host.prepare(client, key)
        return Root(made.mounts, host.SNAPSHOTTER, warning=made.warning)
    from sampan.client.images import prepare_root

    mounts, config = await prepare_root(client, image, key)
    return Root(mounts, client.snapshotter, config)


async def create(
    client: Client,
    image: str,
    request: Request,
    *,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    runtime: str = "",
    networking: Networking | None = None,
    root: Callable[[str], Awaitable[Root]] | None = None,
    snapshotter: str = "",
    swept: bool = False,
) -> Created:
    """Make a container upon `image`, or upon `host:`; nothing runs yet.

    Cancelled or failed, nothing of it is left. Without `networking` it has what the request says:
    the host's network or none.

    Args:
      client: Whose.
      image: Its name, kept in the record.
      request: Policy.
      name: Empty invents one.
      labels: Of the record.
      runtime: Name of the shim; empty is ours.
      networking: What is wanted of the network.
      root: Prepares another root than the image's, for the key it is given.
      snapshotter: Where `root` prepares it.
      swept: What dead owners left was looked for already.

    Raises:
      NotFound: no such image here.
      AlreadyExists: the name is taken.
      InvalidArgument: the request cannot be met by this image.
    """
    key = new_id()
    folder = Folder(client, key)
    if not swept:
        await sweep(client)
    where = snapshotter or (host.SNAPSHOTTER if image == host.HOST else client.snapshotter)
    try:
        chosen = await to_thread(folder.make, name, LABEL_REMOVE in (labels or {}))
        made = await (root(key) if root is not None else root_of(client, image, key))
        config, mounts = made.config, made.mounts
        request, more = await settled(client, folder, request, networking, config)
        user = request.user or (config.user if config else "")
        spec = await to_thread(_build, client, request, config, key, user, mounts)
        container = await client.containers.create(
            Container(
                id=key,
                image=image,
                runtime=Runtime(runtime or "io.containerd.sampan.v2"),
                spec=Opaque(SPEC_TYPE, spec),
                snapshotter=where,
                snapshot_key=key,
                labels={**(labels or {}), **more, LABEL_NAME: chosen},
            )
        )
        # Until here the snapshot was nobody's, and a collection of another process may have taken
        # it; from here on the record keeps it. A look costs less than a lease's two transactions.
        await client.snapshots(where).stat(key)
    except BaseException:
        folder.disown()
        if folder.chosen:
            await shielded(20, _undo(client, folder, folder.chosen, where))
        raise
    return Created(container, chosen, mounts, made.warning, folder=folder, owner_fd=folder.owner_fd)


def _build(
    client: Client,
    request: Request,
    config: ContainerConfig | None,
    id: str,
    user: str,
    mounts: Sequence[Mount],
) -> bytes:
    root_fd = -1
    if user and not user.replace(":", "").isdigit():
        root_fd = _open_root([mount for mount in mounts if not mount.target], client.rootless)
    try:
        spec = build(request, config, id=id, namespace=client.namespace, root_fd=root_fd)
    finally:
        if root_fd >= 0:
            os.close(root_fd)
    values = spec.to_json()
    if client.rootless:
        from sampan.client.spec.rootless import adapt

        adapt(values, request)
    return json.dumps(values).encode()


def _open_root(mounts: Sequence[Mount], rootless: bool) -> int:
    """Open a root to look users up in; an ordinary user, who may mount nothing, takes a layer."""
    from sampan.storage.detached import open_mounts
    from sampan.storage.uppers import layers_of

    if not rootless:
        return open_mounts(mounts)
    one = mounts[0]
    folders = layers_of([one.type, one.source, one.target, list(one.options)]).folders
    chosen = next((f for f in folders if os.path.exists(f"{f}/etc/passwd")), folders[-1])
    return os.open(chosen, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


async def _undo(client: Client, folder: Folder, name: str, snapshotter: str) -> None:
    with suppress(SampanError):
        await client.delete_container(folder.id)
    with suppress(SampanError):
        await client.snapshots(snapshotter).remove(folder.id)
    await to_thread(folder.remove, name)


async def root_mounts(client: Client, container: Container) -> list[Mount]:
    """Return the mounts of a container's root, of one made earlier."""
    mounts: list[Mount] = []
    if container.snapshot_key:  # a bundle's root is a folder of the user's own
        mounts = await client.snapshots(container.snapshotter).mounts(container.snapshot_key)
    return [*mounts, *await to_thread(Folder(client, container.id).read_mounts)]


async def start_task(
    client: Client,
    container: Container,
    mounts: Sequence[Mount],
    stdio: Stdio,
    *,
    owner_fd: int = -1,
) -> int:
    """Connect the container and make its task; one that has ended is deleted before.

    Failed or cancelled, its addresses are given back.
    """
    if (await _has_ended(client, container.id)) is True:
        await client.tasks.delete(container.id)
    await attach(client, container, Folder(client, container.id))
    try:
        return await client.tasks.create(
            container.id,
            spec=container.spec.value,
            rootfs=mounts,
            runtime=container.runtime.name,
            stdio=stdio,
            owner_fd=owner_fd,
        )
    except BaseException:
        await shielded(20, release(client, container))
        raise


async def _has_ended(client: Client, id: str) -> bool | None:
    from sampan.runtime import Status

    try:
        async with asyncio.timeout(10):
            return (await client.tasks.state(id)).status is Status.STOPPED
    except NotFound:
        return None
