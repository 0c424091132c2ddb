"""The JSON documents of an image, OCI's and Docker's: index, manifest, config.

    document = decode(data, descriptor.media_type)      # Index or Manifest, as the type says
    config = decode_config(data)
    chain_id(config.rootfs.diff_ids)                    # the name of the unpacked snapshot

Everything here is content, written by whoever made the image: it is capped in size and depth, and
its fields are never policy. A document must be what its media type says: one that could be read as
two things (CVE-2021-41190) is refused, and so is one whose keys differ from known ones by case
only, because readers written in Go would take them for those.

Source: image-spec image-index.md, manifest.md, config.md, v1.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NewType, TypeVar

import msgspec

from sampan.errors import InvalidArgument, ResourceExhausted, SampanError, Unimplemented
from sampan.model import digest as digests
from sampan.model.descriptor import (
    CONFIG_TYPES,
    DOCKER_SCHEMA1_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from sampan.model.digest import Digest
from sampan.model.platform import Platform

__all__ = [
    "CONFIG_MAX",
    "DEPTH_MAX",
    "MANIFEST_MAX",
    "ChainId",
    "ContainerConfig",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "RootFS",
    "chain_id",
    "chain_ids",
    "decode",
    "decode_config",
    "encode",
    "media_type_of",
    "safe_labels",
]

MANIFEST_MAX: Final = 4 << 20
"""Largest index or manifest in bytes, as registries have it, too."""
CONFIG_MAX: Final = 8 << 20
"""Largest image config in bytes."""
DEPTH_MAX: Final = 32
"""Deepest nesting of JSON that any of these documents has a use for."""
_LAYERS_MAX: Final = 1000
_RESERVED: Final = ("containerd.io/", "io.cri-containerd")

ChainId = NewType("ChainId", str)
"""Digest over a stack of diff ids; the name of a committed snapshot."""

Exposed = dict[str, Any]
_T = TypeVar("_T")


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A list of manifests, one for each platform. Docker calls it a manifest list."""

    schema_version: Annotated[int, msgspec.Meta(ge=2, le=2)] = msgspec.field()
    media_type: str = ""
    artifact_type: str | None = None
    manifests: tuple[Descriptor, ...] = msgspec.field()
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One image, or one artifact: a config and layers, bottom first."""

    schema_version: Annotated[int, msgspec.Meta(ge=2, le=2)] = msgspec.field()
    media_type: str = ""
    artifact_type: str | None = None
    config: Descriptor = msgspec.field()
    layers: tuple[Descriptor, ...] = msgspec.field()
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if len(self.layers) > _LAYERS_MAX:
            raise ValueError(f"{len(self.layers)} layers; {_LAYERS_MAX} is the most")

    @property
    def is_image(self) -> bool:
        """Tell whether it is an image to run, not some artifact."""
        return self.config.media_type in CONFIG_TYPES


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the image's author would run it. Go's names, since config.json of images has them."""

    user: str = msgspec.field(default="", name="User")
    exposed_ports: Exposed | None = msgspec.field(default=None, name="ExposedPorts")
    env: tuple[str, ...] | None = msgspec.field(default=None, name="Env")
    entrypoint: tuple[str, ...] | None = msgspec.field(default=None, name="Entrypoint")
    cmd: tuple[str, ...] | None = msgspec.field(default=None, name="Cmd")
    volumes: Exposed | None = msgspec.field(default=None, name="Volumes")
    working_dir: str = msgspec.field(default="", name="WorkingDir")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")
    """As written; use `safe_labels` for anything that is stored with a container."""
    stop_signal: str = msgspec.field(default="", name="StopSignal")
    args_escaped: bool = msgspec.field(default=False, name="ArgsEscaped")
    healthcheck: dict[str, Any] | None = msgspec.field(default=None, name="Healthcheck")
    shell: tuple[str, ...] | None = msgspec.field(default=None, name="Shell")
    on_build: tuple[str, ...] | None = msgspec.field(default=None, name="OnBuild")


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """Digests of the layers' uncompressed tars, bottom first."""

    type: str = "layers"
    diff_ids: tuple[Digest, ...] = ()


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one layer came to be; for people to read."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config blob. Unknown fields, Docker has many, are ignored."""

    created: str | None = None
    author: str = ""
    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] | None = msgspec.field(default=None, name="os.features")
    variant: str = ""
    config: ContainerConfig | None = None
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: tuple[History, ...] | None = None

    @property
    def platform(self) -> Platform:
        """The platform it says it is for."""
        return Platform(
            os=self.os,
            architecture=self.architecture,
            variant=self.variant,
            os_version=self.os_version,
            os_features=self.os_features or (),
        )


def decode(data: bytes, media_type: str) -> Index | Manifest:
    """Return the document that `data`, received as `media_type`, holds.

    Raises:
      ResourceExhausted: larger than MANIFEST_MAX or nested deeper than DEPTH_MAX.
      InvalidArgument: no such document, or one that says it is of another type or of two types.
      Unimplemented: Docker schema 1, or a media type that is no index and no manifest.
    """
    _check_caps(data, MANIFEST_MAX, "manifest")
    if media_type in DOCKER_SCHEMA1_TYPES:
        raise Unimplemented(
            "image manifest schema 1 is obsolete: push the image again as schema 2 or OCI"
        )
    is_index = media_type in INDEX_TYPES
    if not is_index and media_type not in MANIFEST_TYPES:
        raise Unimplemented(f"media type {media_type[:100]!r} is neither an index nor a manifest")
    _check_keys(data, media_type, is_index=is_index)
    document = _decode(data, Index, media_type) if is_index else _decode(data, Manifest, media_type)
    _check_type(document.media_type, media_type)
    return document


def decode_config(data: bytes) -> ImageConfig:
    """Return the image config in `data`.

    Raises:
      ResourceExhausted: larger than CONFIG_MAX or nested deeper than DEPTH_MAX.
      InvalidArgument: not an image config.
    """
    _check_caps(data, CONFIG_MAX, "image config")
    config = _decode(data, ImageConfig, "image config")
    if config.rootfs.type != "layers":
        raise InvalidArgument(
            f"image config: rootfs type is {config.rootfs.type[:40]!r}, not 'layers'"
        )
    for diff_id in config.rootfs.diff_ids:
        digests.parse(diff_id)
    return config


def encode(document: Index | Manifest | ImageConfig) -> bytes:
    """Return the same bytes for the same document, always."""
    return msgspec.json.encode(document)


def media_type_of(data: bytes) -> str:
    """Return what a document says it is, or what its keys show; for layouts without a type.

    Raises:
      InvalidArgument: neither an index nor a manifest.
    """
    keys = _keys(data, "manifest")
    said = keys.get("mediaType")
    if said is not None:
        return _decode(bytes(said), str, "manifest")
    if "manifests" in keys:
        return OCI_INDEX
    if "layers" in keys:
        return OCI_MANIFEST
    raise InvalidArgument("document is neither an index nor a manifest")


def chain_ids(diff_ids: Sequence[Digest]) -> list[ChainId]:
    """Return the chain id of each stack, from the bottom layer alone to all of them.

    Source: image-spec config.md#layer-chainid.
    """
    chain: list[ChainId] = []
    for diff_id in diff_ids:
        if not chain:
            chain.append(ChainId(diff_id))
        else:
            text = f"{chain[-1]} {diff_id}".encode("ascii")
            chain.append(ChainId(f"sha256:{hashlib.sha256(text).hexdigest()}"))
    return chain


def chain_id(diff_ids: Sequence[Digest]) -> ChainId:
    """Return the chain id of the whole stack; empty for an image without layers."""
    chain = chain_ids(diff_ids)
    return chain[-1] if chain else ChainId("")


def safe_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return the labels of an image config without those that would be read as policy.

    An image must not say where its logs go or how it is restarted (CVE-2026-53488).
    """
    return {
        key: value
        for key, value in (labels or {}).items()
        if not key.strip().lower().startswith(_RESERVED)
    }


def _check_caps(data: bytes, limit: int, what: str) -> None:
    if len(data) > limit:
        raise ResourceExhausted(f"{what} has {len(data)} bytes; {limit} is the most")
    depth = deepest = 0
    for opens in _brackets(data):
        depth += 1 if opens else -1
        deepest = max(deepest, depth)
    if deepest > DEPTH_MAX:
        raise ResourceExhausted(f"{what} is nested {deepest} deep; {DEPTH_MAX} is the most")


def _brackets(data: bytes) -> Iterable[bool]:
    """Yield True for each bracket that opens, False for each that closes, outside of strings."""
    outside = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    for byte in b"".join(outside).translate(None, _NO_BRACKETS):
        yield byte in b"[{"


_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def _keys(data: bytes, what: str) -> dict[str, msgspec.Raw]:
    return _decode(data, dict[str, msgspec.Raw], what)


def _check_keys(data: bytes, media_type: str, *, is_index: bool) -> None:
    keys = _keys(data, media_type)
    for key in keys:
        if key not in _KNOWN and key.lower() in _KNOWN_LOWER:
            raise InvalidArgument(
                f"{media_type}: key {key!r} differs from a known one by case only"
            )
    foreign = ("layers", "config", "fsLayers") if is_index else ("manifests", "fsLayers")
    for key in foreign:
        if key in keys:
            raise InvalidArgument(f"{media_type}: a document of this type must not have {key!r}")


_KNOWN: Final = frozenset(
    (
        "annotations",
        "artifactType",
        "config",
        "fsLayers",
        "layers",
        "manifests",
        "mediaType",
        "schemaVersion",
        "subject",
    )
)
_KNOWN_LOWER: Final = frozenset(key.lower() for key in _KNOWN)


def _check_type(said: str, received: str) -> None:
    if said and said != received:
        raise InvalidArgument(f"document received as {received} says it is {said[:100]!r}")


def _decode(data: bytes, type: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.MsgspecError, RecursionError, ValueError) as err:
        raise InvalidArgument(f"{what}: {err}") from err
    except SampanError as err:
        raise InvalidArgument(f"{what}: {err}") from err
