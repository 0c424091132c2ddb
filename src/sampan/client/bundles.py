"""OCI bundles, a folder with config.json and rootfs, made of images and run as containers.

    unpack   image ─► DIR/{config.json,rootfs/,image.json}      any OCI runtime can run that
    create   DIR ─► a container of ours with that config.json, and the folder as its root

Layers are applied by confined workers, as for snapshots; the root is a plain folder.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.client import images
from sampan.client.containers import LABEL_NAME, Folder, new_id
from sampan.client.creation import SPEC_TYPE, Created
from sampan.client.spec.build import build
from sampan.client.spec.request import Request
from sampan.client.sweeping import LABEL_REMOVE, own, sweep
from sampan.concurrency import shielded, to_thread
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.metadata import Container, Runtime
from sampan.model.image import encode
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.model.runtime.linux import Linux
from sampan.model.runtime.spec import Spec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.client import Client
    from sampan.model.image import ContainerConfig

__all__ = ["IMAGE_FILE", "create", "unpack"]

IMAGE_FILE = "image.json"
"""The image's config, for `pack`: config.json has no place for its labels and ports."""
_MAX_BYTES = 4 << 20


async def unpack(client: Client, reference: str, folder: Path) -> None:
    """Make a bundle of an image in `folder`, which is made.

    Failed or cancelled, the folder is gone again.

    Raises:
      NotFound: no such image here.
      AlreadyExists: the folder is there, and not empty.
      InvalidArgument: the image names a user that it does not have.
    """
    image = await images.find(client, reference)
    manifest = await images.manifest_of(client, image.target)
    config = await images.config_of(client, image)
    await to_thread(_make, folder)
    try:
        root = Mount("bind", str(folder / "rootfs"), "", ("rbind", "rw"))
        from sampan.storage.diff.layers import LayerApplier

        applier = LayerApplier(client.content)
        for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True):
            _same((await applier.apply(layer, [root])).digest, diff_id, f"{layer.digest}")
        spec = await to_thread(_spec, config.config, folder)
        await to_thread(_write, folder, "config.json", json.dumps(spec.to_json(), indent=2))
        await to_thread(_write, folder, IMAGE_FILE, encode(config).decode())
    except BaseException:
        await shielded(60, to_thread(shutil.rmtree, folder))
        raise


def _same(digest: str, diff_id: str, layer: str) -> None:
    if digest != diff_id:
        raise FailedPrecondition(
            f"layer {layer} is {digest} uncompressed, and the image's config says {diff_id}"
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise AlreadyExists(f"{folder} is not empty: name another folder")
        (folder / "rootfs").mkdir()
        (folder / "rootfs").chmod(0o755)
    except OSError as err:
        raise InvalidArgument(f"cannot make a bundle in {folder}: {err.strerror}") from err


def _spec(config: ContainerConfig | None, folder: Path) -> Spec:
    fallback = () if config is not None and (config.cmd or config.entrypoint) else ("sh",)
    root_fd = os.open(folder / "rootfs", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        spec = build(
            Request(args=fallback), config, id=folder.name, namespace="bundle", root_fd=root_fd
        )
    finally:
        os.close(root_fd)
    assert spec.linux is not None  # noqa: S101
    return spec.replace(hostname=folder.name[:63], linux=spec.linux.replace(cgroups_path=""))


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text + "\n")


async def create(
    client: Client, folder: Path, *, name: str = "", labels: Mapping[str, str] | None = None
) -> Created:
    """Make a container of a bundle; nothing runs yet. What it writes goes into the bundle's root.

    Raises:
      NotFound: there is no config.json, or no root.
      InvalidArgument: config.json is malformed, or has no root or process.
      AlreadyExists: the name is taken.
    """
    folder, spec, root = await to_thread(_read, folder)
    key = new_id()
    own_folder = Folder(client, key)
    await sweep(client)
    chosen = await to_thread(own_folder.make, name)
    labels = dict(labels or {})
    owner_fd = own(own_folder.path) if LABEL_REMOVE in labels else -1
    try:
        await to_thread(own_folder.write_mounts, [root])
        container = await client.containers.create(
            Container(
                id=key,
                image=f"bundle:{folder}",
                runtime=Runtime("io.containerd.sampan.v2"),
                spec=Opaque(SPEC_TYPE, _adapted(spec, folder, client.namespace, key)),
                labels={**labels, LABEL_NAME: chosen},
            )
        )
    except BaseException:
        if owner_fd >= 0:
            os.close(owner_fd)
        await shielded(20, to_thread(own_folder.remove, chosen))
        raise
    return Created(container, chosen, [root], folder=own_folder, owner_fd=owner_fd)


def _adapted(spec: Spec, folder: Path, namespace: str, key: str) -> bytes:
    """Encode config.json for a task: its own root, whole paths, a cgroup of ours if it names none.

    A terminal is asked for by flag; what config.json says of it was meant for another caller.
    """
    linux = spec.linux or Linux()
    if not linux.cgroups_path:
        linux = linux.replace(cgroups_path=f"/sampan/{namespace}/{key}")
    mounts = tuple(
        mount.replace(source=str(folder / mount.source))
        if mount.source and "bind" in "".join(mount.options) and not mount.source.startswith("/")
        else mount
        for mount in spec.mounts
    )
    assert spec.root is not None  # noqa: S101
    root = spec.root.replace(path="rootfs")
    return json.dumps(spec.replace(root=root, linux=linux, mounts=mounts).to_json()).encode()


def _read(folder: Path) -> tuple[Path, Spec, Mount]:
    folder = folder.absolute()
    try:
        with (folder / "config.json").open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as err:
        raise NotFound(f"no bundle in {folder}: config.json: {err.strerror}") from err
    if len(text) > _MAX_BYTES:
        raise InvalidArgument(f"{folder}/config.json is larger than {_MAX_BYTES} bytes")
    spec = parse_spec(text)
    if spec.root is None or spec.process is None:
        raise InvalidArgument(f"{folder}/config.json has no root or no process")
    root = folder / spec.root.path
    if not root.is_dir():
        raise NotFound(f"the root of the bundle is not there: {root}")
    return folder, spec, Mount("bind", str(root), "", ("rbind", "rw"))
