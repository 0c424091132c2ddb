"""Descriptors: media type, digest and size of one blob, and the media types we know.

Source: image-spec descriptor.md, v1.1; Docker's image manifest v2 schema 2.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from sampan.model import digest as digests
from sampan.model.digest import Digest
from sampan.model.platform import Platform

__all__ = [
    "CONFIG_TYPES",
    "DOCKER_CONFIG",
    "DOCKER_INDEX",
    "DOCKER_LAYER_GZIP",
    "DOCKER_MANIFEST",
    "DOCKER_SCHEMA1_TYPES",
    "INDEX_TYPES",
    "MANIFEST_TYPES",
    "OCI_CONFIG",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "Descriptor",
    "compression",
    "is_foreign",
    "is_layer",
]

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = f"{OCI_LAYER}+gzip"
OCI_LAYER_ZSTD: Final = f"{OCI_LAYER}+zstd"
_OCI_FOREIGN: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"

DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = f"{DOCKER_LAYER}.gzip"
DOCKER_LAYER_ZSTD: Final = f"{DOCKER_LAYER}.zstd"
_DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_SCHEMA1_TYPES: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_COMPRESSION: Final = {
    OCI_LAYER: "",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    DOCKER_LAYER: "",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
    _OCI_FOREIGN: "",
    f"{_OCI_FOREIGN}+gzip": "gzip",
    f"{_OCI_FOREIGN}+zstd": "zstd",
    _DOCKER_FOREIGN: "",
    f"{_DOCKER_FOREIGN}.gzip": "gzip",
}


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What to expect under a digest. Content: `urls` and `annotations` are never obeyed."""

    media_type: str
    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
    """In bytes."""
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    data: str | None = None
    """The blob itself in base64, if small; it does not spare checking the digest."""
    artifact_type: str | None = None
    platform: Platform | None = None

    def __post_init__(self) -> None:
        digests.parse(self.digest)

    @property
    def annotation(self) -> dict[str, str]:
        """The annotations, never None."""
        return self.annotations or {}


def is_layer(media_type: str) -> bool:
    """Tell whether it is a layer in a format that we can apply."""
    return media_type in _COMPRESSION


def is_foreign(media_type: str) -> bool:
    """Tell whether a registry need not hold it: a layer not to be distributed."""
    return media_type.startswith((_OCI_FOREIGN, _DOCKER_FOREIGN))


def compression(media_type: str) -> str:
    """Return `gzip`, `zstd` or nothing for a layer's media type.

    Raises:
      KeyError: not a layer that we can apply; ask `is_layer` first.
    """
    return _COMPRESSION[media_type]
