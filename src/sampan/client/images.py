"""Images as containers need them: found by what people write, unpacked, with their config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.model.descriptor import Descriptor
from sampan.model.image import (
    ContainerConfig,
    ImageConfig,
    Index,
    Manifest,
    chain_id,
    decode,
    decode_config,
)
from sampan.model.mounts import Mount
from sampan.model.platform import Matcher, default
from sampan.model.reference import parse

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Image

__all__ = [
    "canonical",
    "config_of",
    "ensure",
    "fetch",
    "find",
    "manifest_of",
    "prepare_root",
    "read",
]


async def find(client: Client, reference: str) -> Image:
    """Return the image that `reference` means: a name, a short one, or a digest's start.

    Raises:
      NotFound: none is here.
      InvalidArgument: it is no reference.
    """
    name = str(parse(reference)) if not reference.startswith("sha256:") else reference
    try:
        return await client.images.get(name)
    except NotFound:
        digits = reference.removeprefix("sha256:")
        if len(digits) >= 6 and all(letter in "0123456789abcdef" for letter in digits):
            for image in await client.images.list():
                if image.target.digest.partition(":")[2].startswith(digits):
                    return image
        raise NotFound(f"no image {name} here: pull it first") from None


def canonical(name: str) -> str:
    """Return an image's name as records have it; what is none, such as `host:`, as it is."""
    try:
        return str(parse(name))
    except InvalidArgument:
        return name


async def fetch(client: Client, name: str, *, platform: str = "") -> Image:
    """Pull an image and unpack it; return its record.

    Raises:
      InvalidArgument: no reference, or no platform.
      SampanError: as the registry says.
    """
    from sampan.model import platform as platforms

    matcher = Matcher(platforms.parse(platform)) if platform else None
    return await (await client.transfer()).pull(parse(name), platform=matcher)


async def ensure(client: Client, name: str, *, pull: str = "missing") -> None:
    """See to it that an image is here; `pull` is `missing`, `always` or `never`.

    Raises:
      NotFound: it is not, and may not be pulled.
      SampanError: as the registry says.
    """
    if pull not in ("missing", "always", "never"):
        raise InvalidArgument(f"pull={pull!r} is none of missing, always and never")
    if pull != "always":
        try:
            await find(client, name)
        except NotFound:
            if pull == "never" or name.startswith("sha256:"):
                raise
        else:
            return
    await fetch(client, name)


async def read(client: Client, descriptor: Descriptor) -> bytes:
    """Return a small blob."""
    async with await client.content.reader(descriptor.digest) as reader:
        return await reader.read_at(0, descriptor.size)


async def manifest_of(client: Client, target: Descriptor) -> Manifest:
    """Return the manifest for this host's platform.

    Raises:
      NotFound: the image has none, or it is not here.
    """
    document = decode(await read(client, target), target.media_type)
    if isinstance(document, Manifest):
        return document
    assert isinstance(document, Index)  # noqa: S101
    matcher = Matcher(default())
    at = matcher.best([one.platform for one in document.manifests])
    if at is None:
        raise NotFound(f"image {target.digest} has nothing for {default()}")
    return await manifest_of(client, document.manifests[at])


async def config_of(client: Client, image: Image) -> ImageConfig:
    """Return an image's config for this host's platform."""
    manifest = await manifest_of(client, image.target)
    return decode_config(await read(client, manifest.config))


async def prepare_root(
    client: Client, reference: str, key: str
) -> tuple[list[Mount], ContainerConfig | None]:
    """Prepare the root of container `key` upon an image, unpacking it if that was not done.

    Raises:
      NotFound: no such image, or part of it is missing.
      FailedPrecondition: it has no layers to unpack.
    """
    image = await find(client, reference)
    config = await config_of(client, image)
    if config.architecture and not Matcher(default()).match(config.platform):
        raise FailedPrecondition(
            f"image {image.name} is for {config.platform} only, and this host is {default()}"
        )
    parent = chain_id(config.rootfs.diff_ids) if config.rootfs.diff_ids else ""
    if not parent:
        raise FailedPrecondition(f"image {image.name} has no layers: it cannot be run")
    try:
        mounts = await client.snapshots().prepare(key, parent)
    except NotFound:
        from sampan.client.local.transfers import unpack_image

        await unpack_image(client, await manifest_of(client, image.target))
        mounts = await client.snapshots().prepare(key, parent)
    return mounts, config.config
