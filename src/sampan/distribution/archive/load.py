"""From an archive into the content store."""

from __future__ import annotations

import posixpath
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from sampan.distribution.archive import Found, Loaded, Readable
from sampan.distribution.archive.members import Member, members
from sampan.distribution.transfer.children import children, gc_labels, kind, read_document, ref_key
from sampan.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from sampan.model import digest as digests
from sampan.model import reference
from sampan.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_ZSTD,
    Descriptor,
    is_foreign,
)
from sampan.model.digest import Digest
from sampan.model.image import (
    CONFIG_MAX,
    MANIFEST_MAX,
    Index,
    Manifest,
    decode,
    decode_config,
    encode,
)
from sampan.storage.content import Store

__all__ = ["load", "load_all"]

_BLOB: Final = re.compile(r"blobs/(sha256|sha384|sha512)/([0-9a-f]+)", re.ASCII)
_DOCUMENTS: Final = frozenset({"oci-layout", "index.json", "manifest.json", "repositories"})
_DEPTH_MAX: Final = 4
_IMAGES_MAX: Final = 1000
_NAME: Final = "io.containerd.image.name"
_REF_NAME: Final = "org.opencontainers.image.ref.name"


class _Item(msgspec.Struct, frozen=True):
    """One image in Docker's manifest.json."""

    config: str = msgspec.field(name="Config")
    layers: tuple[str, ...] = msgspec.field(name="Layers")
    repo_tags: tuple[str, ...] | None = msgspec.field(default=None, name="RepoTags")


@dataclass(slots=True)
class _Archive:
    """What a first pass found."""

    documents: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    """By member name; the media type is that of a layer, by the first bytes."""
    links: dict[str, str] = field(default_factory=dict)

    def blob(self, name: str) -> Descriptor:
        path = posixpath.normpath(name)
        path = self.links.get(path, path)
        if path not in self.blobs:
            raise InvalidArgument(
                f"archive: manifest.json names {name[:100]!r}, which is not there"
            )
        return self.blobs[path]


async def load(content: Store, source: Path | Readable) -> list[Found]:
    """Return the images of `load_all`."""
    return list((await load_all(content, source)).images)


async def load_all(content: Store, source: Path | Readable) -> Loaded:
    """Import all images of an archive or layout; the caller holds a lease and makes the records.

    Raises:
      InvalidArgument: not an archive of images, or one that is malformed or hostile.
      DataLoss: a blob is not what its name or its manifest says.
      NotFound: a blob that an image needs is missing.
      ResourceExhausted: a cap, or the disk, is used up.
    """
    archive = _Archive()
    async for member in members(source):
        await _take(content, archive, member)
    if "oci-layout" in archive.documents and "index.json" in archive.documents:
        return await _load_layout(content, archive.documents["index.json"])
    if "manifest.json" in archive.documents:
        return await _load_docker(content, archive)
    raise InvalidArgument("archive holds neither an OCI layout nor Docker's manifest.json")


async def _take(content: Store, archive: _Archive, member: Member) -> None:
    name = member.name
    if name in archive.documents or name in archive.blobs or name in archive.links:
        raise InvalidArgument(f"archive: two members are named {name[:100]!r}")
    if member.link:
        archive.links[name] = member.link
        return
    if member.chunks is None:
        return
    if name in _DOCUMENTS:
        if member.size > MANIFEST_MAX:
            raise ResourceExhausted(
                f"archive: {name} has {member.size} bytes; {MANIFEST_MAX} is the most"
            )
        archive.documents[name] = b"".join([chunk async for chunk in member.chunks])
    elif match := _BLOB.fullmatch(name):
        expected = digests.parse(f"{match[1]}:{match[2]}")
        archive.blobs[name] = await _ingest(content, name, member.chunks, member.size, expected)
    elif name.endswith((".tar", ".json")):
        archive.blobs[name] = await _ingest(content, name, member.chunks, member.size, None)


async def _ingest(
    content: Store, name: str, chunks: AsyncIterator[bytes], size: int, expected: Digest | None
) -> Descriptor:
    ref = f"import-{expected or secrets.token_hex(16)}"
    head = b""
    try:
        writer = await content.writer(ref, expected=expected, total=size)
    except AlreadyExists:
        async for chunk in chunks:
            head = head or chunk[:4]
        assert expected is not None  # noqa: S101 - only an expected blob can exist
        return Descriptor(media_type=_layer_type(head), digest=expected, size=size)
    done = False
    async with writer:
        try:
            await writer.truncate(0)
            async for chunk in chunks:
                head = head or chunk[:4]
                await writer.write(chunk)
            digest = expected or await writer.digest()
            try:
                await writer.commit(size, digest)
            except AlreadyExists:
                pass
            except FailedPrecondition as err:
                raise DataLoss(f"archive: {name[:100]} is not what its name says: {err}") from err
            done = True
        finally:
            if not done:
                await writer.close()
                await content.abort(ref)
    return Descriptor(media_type=_layer_type(head), digest=digest, size=size)


def _layer_type(head: bytes) -> str:
    if head[:2] == b"\x1f\x8b":
        return DOCKER_LAYER_GZIP
    return OCI_LAYER_ZSTD if head == b"\x28\xb5\x2f\xfd" else OCI_LAYER


async def _load_layout(content: Store, data: bytes) -> Loaded:
    index = decode(data, OCI_INDEX)
    assert isinstance(index, Index)  # noqa: S101 - by its media type
    if len(index.manifests) > _IMAGES_MAX:
        raise ResourceExhausted(
            f"archive lists {len(index.manifests)} images; {_IMAGES_MAX} is the most"
        )
    found = []
    for target in index.manifests:
        await _check_tree(content, target, 0)
        bare = msgspec.structs.replace(target, annotations=None)
        found.append(Found(_name_of(target), bare, target.annotation))
    return Loaded(data, found)


def _name_of(target: Descriptor) -> str:
    annotations = target.annotation
    text = annotations.get(_NAME, "")
    if not text and "/" in annotations.get(_REF_NAME, ""):
        text = annotations[_REF_NAME]
    try:
        return str(reference.parse(text)) if text else ""
    except InvalidArgument:
        return ""


async def _check_tree(content: Store, descriptor: Descriptor, depth: int) -> None:
    """Check that everything below is here and what it should be; label documents with children."""
    if depth > _DEPTH_MAX:
        raise ResourceExhausted(f"archive: indexes are nested more than {_DEPTH_MAX} deep")
    info = await content.info(descriptor.digest)
    if info.size != descriptor.size:
        raise DataLoss(
            f"archive: {kind(descriptor)} {descriptor.digest} has {info.size} bytes, "
            f"not {descriptor.size} as described"
        )
    if descriptor.media_type not in INDEX_TYPES | MANIFEST_TYPES:
        return
    document = await read_document(content, descriptor)
    present = 0
    for child in children(document):
        try:
            await _check_tree(content, child, depth + 1)
            present += 1
        except NotFound:
            # An archive made for one platform keeps the index with all of them.
            if isinstance(document, Manifest) and not is_foreign(child.media_type):
                raise NotFound(
                    f"archive: {kind(child)} {child.digest} of {descriptor.digest} is missing"
                ) from None
    if not present:
        raise NotFound(f"archive: nothing of {descriptor.digest} is there")
    await _label(content, descriptor.digest, gc_labels(document))


async def _label(content: Store, digest: Digest, labels: dict[str, str]) -> None:
    info = await content.info(digest)
    await content.update(
        replace(info, labels={**info.labels, **labels}), [f"labels.{key}" for key in labels]
    )


async def _load_docker(content: Store, archive: _Archive) -> Loaded:
    try:
        items = msgspec.json.decode(archive.documents["manifest.json"], type=list[_Item])
    except (msgspec.MsgspecError, RecursionError) as err:
        raise InvalidArgument(f"archive: manifest.json: {err}") from err
    if len(items) > _IMAGES_MAX:
        raise ResourceExhausted(f"archive lists {len(items)} images; {_IMAGES_MAX} is the most")
    found: list[Found] = []
    for item in items:
        target = await _docker_image(content, archive, item)
        names = [reference.parse(tag) for tag in item.repo_tags or ()]
        found += [Found(str(name), target, _annotations(name)) for name in names]
        if not names:
            found.append(Found("", target))
    manifests = tuple(
        msgspec.structs.replace(one.target, annotations=dict(one.annotations) or None)
        for one in found
    )
    return Loaded(encode(Index(schema_version=2, manifests=manifests)), found)


def _annotations(name: reference.Reference) -> dict[str, str]:
    return {_NAME: str(name), **({_REF_NAME: name.tag} if name.tag else {})}


async def _docker_image(content: Store, archive: _Archive, item: _Item) -> Descriptor:
    config = archive.blob(item.config)
    async with await content.reader(config.digest) as reader:
        parsed = decode_config(await reader.read_at(0, CONFIG_MAX + 1))
    layers = tuple(archive.blob(name) for name in item.layers)
    if len(layers) != len(parsed.rootfs.diff_ids):
        raise InvalidArgument(
            f"archive: {item.config[:100]} has {len(parsed.rootfs.diff_ids)} diff ids "
            f"for {len(layers)} layers"
        )
    for layer, diff_id in zip(layers, parsed.rootfs.diff_ids, strict=True):
        if layer.media_type == OCI_LAYER and layer.digest != diff_id:
            raise DataLoss(f"archive: layer {layer.digest} should be {diff_id}")
    manifest = Manifest(
        schema_version=2,
        media_type=DOCKER_MANIFEST,
        config=msgspec.structs.replace(config, media_type=DOCKER_CONFIG),
        layers=layers,
    )
    data = encode(manifest)
    descriptor = Descriptor(
        media_type=DOCKER_MANIFEST, digest=digests.of_bytes(data), size=len(data)
    )
    await _store(content, descriptor, data, gc_labels(manifest))
    return descriptor


async def _store(
    content: Store, descriptor: Descriptor, data: bytes, labels: dict[str, str]
) -> None:
    try:
        writer = await content.writer(
            ref_key(descriptor), expected=descriptor.digest, total=len(data)
        )
    except AlreadyExists:
        await _label(content, descriptor.digest, labels)
        return
    async with writer:
        await writer.truncate(0)
        await writer.write(data)
        await writer.commit(len(data), descriptor.digest, labels=labels)
