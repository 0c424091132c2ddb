"""Images by id, which is the digest of the config: computed from the image records of `k8s.io`.

    docker.io/library/busybox:1        ┐ target ─▶ index ─▶ manifest ─▶ config sha256:2d6…  = the id
    docker.io/library/busybox@sha256:… ┘

Nothing is cached but what a digest names for good, so images that other tools load, tag and remove
in the same store are seen at once. A pull by tag also records the name by digest: what was pulled
stays, and can be named, when the tag moves on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sampan.distribution.transfer.download import Flights
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.metadata import Image as Record
from sampan.model.descriptor import Descriptor
from sampan.model.image import (
    CONFIG_MAX,
    ContainerConfig,
    ImageConfig,
    Index,
    Manifest,
    chain_id,
    decode,
    decode_config,
)
from sampan.model.platform import Matcher, default
from sampan.model.reference import Reference, parse, parse_exact

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["LABEL_MANAGED", "LABEL_PINNED", "Found", "Images"]

LABEL_MANAGED: Final = "io.cri-containerd.image"
LABEL_PINNED: Final = "io.cri-containerd.pinned"
_DIGITS: Final = frozenset("0123456789abcdef")
_ID_DIGITS: Final = 64
_DOCUMENT_MAX: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """What a target leads to on this host's platform; a digest names it for good."""

    id: str
    manifest: Manifest
    config: ImageConfig
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """An image with all its names."""

    content: Content
    records: tuple[Record, ...]

    @property
    def id(self) -> str:
        return self.content.id

    @property
    def chain(self) -> str:
        """Name of the snapshot that its layers make."""
        return str(chain_id(self.content.config.rootfs.diff_ids))

    @property
    def config(self) -> ContainerConfig:
        return self.content.config.config or ContainerConfig()

    @property
    def pinned(self) -> bool:
        return any(one.labels.get(LABEL_PINNED) == "pinned" for one in self.records)

    def tags(self) -> list[str]:
        """Return the names with a tag."""
        named = (_reference(one.name) for one in self.records)
        return sorted(str(one) for one in named if one and one.tag and not one.digest)

    def digests(self) -> list[str]:
        """Return repository@digest for each repository that it came from."""
        found = set()
        for one in self.records:
            reference = _reference(one.name)
            if reference is not None:
                found.add(f"{reference.name}@{reference.digest or one.target.digest}")
        return sorted(found)

    def reference(self) -> str:
        """Return one name that says what it is."""
        return next(iter(self.tags() or self.digests()), self.id)


def _reference(name: str) -> Reference | None:
    try:
        return parse_exact(name)
    except InvalidArgument:
        return None


class Images:
    """The images of the namespace."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri
        self._contents: dict[str, Content] = {}
        self.flights = Flights()
        self.pulls: dict[str, int] = {}

    async def close(self) -> None:
        """Nothing is held open between calls."""

    async def all(self) -> list[Found]:
        """Return every image whose config is here."""
        grouped: dict[str, list[Record]] = {}
        contents: dict[str, Content] = {}
        seen = set()
        for record in await self._cri.engine.metadata.images.list():
            seen.add(str(record.target.digest))
            try:
                content = await self._content(record.target)
            except SampanError:
                continue  # half of it is here, or it is no image to run
            contents[content.id] = content
            grouped.setdefault(content.id, []).append(record)
        for gone in set(self._contents) - seen:
            del self._contents[gone]
        return [Found(contents[key], tuple(records)) for key, records in grouped.items()]

    async def find(self, text: str) -> Found | None:
        """Return the image of an id, the beginning of one, or a name; None if there is none.

        Raises:
          InvalidArgument: neither an id nor a name.
        """
        if not text:
            raise InvalidArgument("image reference is empty")
        images = await self.all()
        digits = text.removeprefix("sha256:")
        if len(digits) >= 3 and _DIGITS.issuperset(digits):
            for image in images:
                if image.id == f"sha256:{digits}":
                    return image
            several = [one for one in images if one.id.startswith(f"sha256:{digits}")]
            if len(several) == 1:
                return several[0]
            if text.startswith("sha256:") or len(digits) == _ID_DIGITS:
                return None
        wanted = parse(text)
        names = {str(wanted)}
        if wanted.digest and wanted.tag:
            names.add(f"{wanted.name}@{wanted.digest}")
        for image in images:
            if any(one.name in names for one in image.records):
                return image
        if wanted.digest:
            for image in images:
                if f"{wanted.name}@{wanted.digest}" in image.digests():
                    return image
        return None

    async def get(self, text: str) -> Found:
        """Return an image.

        Raises:
          NotFound: it is not here.
        """
        found = await self.find(text)
        if found is None:
            raise NotFound(f"image {text!r} is not here: pull it first")
        return found

    async def content_of(self, target: Descriptor) -> Content:
        """Return what a target leads to.

        Raises:
          NotFound: part of it is not here, or it is for other platforms only.
        """
        return await self._content(target)

    async def _content(self, target: Descriptor) -> Content:
        known = self._contents.get(str(target.digest))
        if known is not None:
            return known
        manifest, size = await self._manifest(target, 0)
        data = await self._read(manifest.config, CONFIG_MAX)
        size += manifest.config.size + sum(layer.size for layer in manifest.layers)
        content = Content(str(manifest.config.digest), manifest, decode_config(data), size)
        self._contents[str(target.digest)] = content
        return content

    async def _manifest(self, target: Descriptor, depth: int) -> tuple[Manifest, int]:
        document = decode(await self._read(target, _DOCUMENT_MAX), target.media_type)
        if isinstance(document, Manifest):
            return document, target.size
        assert isinstance(document, Index)  # noqa: S101
        at = Matcher(default()).best([one.platform for one in document.manifests])
        if at is None or depth > 3:
            raise NotFound(f"image {target.digest} has nothing for {default()}")
        return await self._manifest(document.manifests[at], depth + 1)

    async def _read(self, descriptor: Descriptor, most: int) -> bytes:
        if descriptor.size > most:
            raise InvalidArgument(f"document {descriptor.digest} is larger than {most} bytes")
        async with await self._cri.engine.metadata.content.reader(descriptor.digest) as reader:
            data: bytes = await reader.read_at(0, descriptor.size)
        return data


def names_of(records: Sequence[Record]) -> list[str]:
    """Return the names of records."""
    return [one.name for one in records]
