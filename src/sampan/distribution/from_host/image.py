"""A recipe to an image: in the content store, or as an OCI layout in a folder."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from sampan.concurrency import Limit, to_thread
from sampan.distribution.from_host import Recipe
from sampan.distribution.from_host.layer import Layer, split, write
from sampan.distribution.from_host.plan import Plan
from sampan.distribution.transfer.children import gc_labels, ref_key
from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.model import digest as digests
from sampan.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.model.image import (
    ContainerConfig,
    History,
    ImageConfig,
    Index,
    Manifest,
    RootFS,
    encode,
)
from sampan.model.platform import default
from sampan.storage.content import Store

__all__ = ["build", "build_layout"]

_BUILDS: Final = Limit("from-host", 2)
_CHUNK: Final = 1 << 20
_UNCOMPRESSED: Final = "containerd.io/uncompressed"
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_BASE: Final = (
    ("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n"),
)


async def build(content: Store, recipe: Recipe, *, tmp: Path | None = None) -> Descriptor:
    """Make the image and put it into the content store; return its manifest.

    Args:
      content: Where to; blobs get containerd's gc labels, so a lease and an image record keep them.
      recipe: What.
      tmp: A folder for layers on their way, with room for them; None is the system's.

    Raises:
      NotFound: a path, library or interpreter is missing.
      InvalidArgument: the recipe makes no sense.
    """
    folder = Path(await to_thread(tempfile.mkdtemp, ".from-host", "", tmp))
    try:
        layers, config = await to_thread(_make, recipe, folder, limit=_BUILDS)
        for layer in layers:
            await _ingest_file(content, layer)
        manifest, documents = _documents(layers, config)
        for descriptor, data, labels in documents:
            await _ingest(content, descriptor, data, labels)
        return manifest
    finally:
        await to_thread(shutil.rmtree, folder)


def build_layout(folder: Path, recipe: Recipe, *, name: str = "latest") -> Descriptor:
    """Make the image as an OCI layout in `folder`, which is created. Blocking.

    Raises:
      NotFound, InvalidArgument: as `build`.
      FileExistsError: the folder is there.
    """
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    layers, config = _make(recipe, folder)
    for layer in layers:
        layer.file.rename(blobs / digests.encoded(layer.descriptor.digest))
    manifest, documents = _documents(layers, config)
    for descriptor, data, _ in documents:
        (blobs / digests.encoded(descriptor.digest)).write_bytes(data)
    named = msgspec.structs.replace(manifest, annotations={_REF_NAME: name})
    index = Index(schema_version=2, media_type=OCI_INDEX, manifests=(named,))
    (folder / "index.json").write_bytes(encode(index))
    (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    return manifest


def _make(recipe: Recipe, folder: Path) -> tuple[list[Layer], ImageConfig]:
    if not any(recipe.groups):
        raise InvalidArgument("image from host: give at least one path")
    plan = Plan(search_path=recipe.search_path)
    layers: list[Layer] = []
    first = ""
    for number, group in enumerate(recipe.groups):
        for name in group:
            path = plan.add(name)
            first = first or path
        if number == 0:
            _add_base(plan, recipe)
        for members in split(plan.take(), recipe.split):
            file = folder / f"layer-{len(layers)}"
            layers.append(
                write(
                    members,
                    file,
                    compression=recipe.compression,
                    latest=recipe.source_date_epoch,
                )
            )
    return layers, _config(recipe, layers, first)


def _add_base(plan: Plan, recipe: Recipe) -> None:
    if recipe.base:
        for path, data in _BASE:
            plan.make(path, data, 0o644)
        plan.make("/tmp", None, 0o1777)  # noqa: S108 - in the image
        plan.make("/root", None, 0o700)
    if recipe.ca_certificates:
        bundle = next((path for path in _BUNDLES if os.path.exists(path)), None)
        if bundle is None:
            raise NotFound(
                f"no bundle of certificate authorities: looked for {', '.join(_BUNDLES)}"
            )
        plan.add(bundle)


def _config(recipe: Recipe, layers: list[Layer], first: str) -> ImageConfig:
    env = recipe.env
    if not any(item.startswith("PATH=") for item in env):
        env = (_PATH, *env)
    cmd = recipe.cmd
    if not cmd and not recipe.entrypoint and _is_program(first):
        cmd = (first,)
    here = default()
    created = None
    if recipe.source_date_epoch is not None:
        created = datetime.fromtimestamp(recipe.source_date_epoch, UTC).isoformat()
    return ImageConfig(
        created=created,
        os=here.os,
        architecture=here.architecture,
        variant=here.variant,
        config=ContainerConfig(
            env=env,
            cmd=cmd or None,
            entrypoint=recipe.entrypoint or None,
            working_dir=recipe.working_dir,
            user=recipe.user,
            labels=dict(recipe.labels) or None,
        ),
        rootfs=RootFS(diff_ids=tuple(layer.diff_id for layer in layers)),
        history=tuple(History(created_by="sampan image from-host") for _ in layers),
    )


def _is_program(path: str) -> bool:
    mode = os.stat(path).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)


_Document = tuple[Descriptor, bytes, dict[str, str]]


def _documents(layers: list[Layer], config: ImageConfig) -> tuple[Descriptor, list[_Document]]:
    config_data = encode(config)
    config_descriptor = _describe(OCI_CONFIG, config_data)
    manifest = Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=config_descriptor,
        layers=tuple(layer.descriptor for layer in layers),
    )
    data = encode(manifest)
    descriptor = _describe(OCI_MANIFEST, data)
    return descriptor, [
        (config_descriptor, config_data, {}),
        (descriptor, data, gc_labels(manifest)),
    ]


def _describe(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digests.of_bytes(data), size=len(data))


async def _ingest(
    content: Store, descriptor: Descriptor, data: bytes, labels: dict[str, str]
) -> None:
    try:
        writer = await content.writer(
            ref_key(descriptor), expected=descriptor.digest, total=descriptor.size
        )
    except AlreadyExists:
        return
    async with writer:
        await writer.truncate(0)
        await writer.write(data)
        await writer.commit(descriptor.size, descriptor.digest, labels=labels)


async def _ingest_file(content: Store, layer: Layer) -> None:
    descriptor = layer.descriptor
    try:
        writer = await content.writer(
            ref_key(descriptor), expected=descriptor.digest, total=descriptor.size
        )
    except AlreadyExists:
        return
    async with writer:
        await writer.truncate(0)
        with await to_thread(layer.file.open, "rb") as file:
            while chunk := await to_thread(file.read, _CHUNK):
                await writer.write(chunk)
        await writer.commit(
            descriptor.size, descriptor.digest, labels={_UNCOMPRESSED: layer.diff_id}
        )
