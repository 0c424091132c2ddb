"""What a document refers to, and the labels that make the garbage collector follow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sampan.errors import NotFound
from sampan.model.descriptor import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES, Descriptor
from sampan.model.image import MANIFEST_MAX, Index, Manifest, decode
from sampan.model.platform import Matcher
from sampan.model.reference import Reference
from sampan.storage.content import Store

__all__ = [
    "DOCUMENT_TYPES",
    "children",
    "gc_labels",
    "kind",
    "read_document",
    "ref_key",
    "select",
    "source_label",
]

DOCUMENT_TYPES: Final = INDEX_TYPES | MANIFEST_TYPES
_REF: Final = "containerd.io/gc.ref.content"
_SOURCE: Final = "containerd.io/distribution.source"
_LABEL_MAX: Final = 4096


def kind(descriptor: Descriptor) -> str:
    """Return `index`, `manifest`, `config` or `layer`."""
    if descriptor.media_type in INDEX_TYPES:
        return "index"
    if descriptor.media_type in MANIFEST_TYPES:
        return "manifest"
    return "config" if descriptor.media_type in CONFIG_TYPES else "layer"


def ref_key(descriptor: Descriptor) -> str:
    """Return the ingest's name, which is containerd's, so that both know the same download."""
    return f"{kind(descriptor)}-{descriptor.digest}"


def children(document: Index | Manifest) -> list[Descriptor]:
    """Return all descriptors in a document that are part of it, in order; not its subject."""
    if isinstance(document, Index):
        return list(document.manifests)
    return [document.config, *document.layers]


def gc_labels(document: Index | Manifest) -> dict[str, str]:
    """Return the labels for a document's blob."""
    if isinstance(document, Index):
        return {f"{_REF}.m.{n}": child.digest for n, child in enumerate(document.manifests)}
    labels = {f"{_REF}.l.{n}": layer.digest for n, layer in enumerate(document.layers)}
    return {f"{_REF}.config": document.config.digest, **labels}


def source_label(reference: Reference, before: str = "") -> tuple[str, str]:
    """Return key and value that say from which repositories of a host a blob came.

    The key has no port. The value is a sorted list with commas, `before` and the repository; one
    that grows too long starts again.
    """
    domain = reference.domain
    host = domain.partition("]")[0] + "]" if domain.startswith("[") else domain.partition(":")[0]
    key = f"{_SOURCE}.{host}"
    value = ",".join(sorted({*filter(None, before.split(",")), reference.path}))
    return key, value if len(key) + len(value) <= _LABEL_MAX else reference.path


async def read_document(content: Store, descriptor: Descriptor) -> Index | Manifest:
    """Read an index or manifest from the content store.

    Raises:
      NotFound: it is not there.
      InvalidArgument: it is not what the media type says.
    """
    async with await content.reader(descriptor.digest) as reader:
        data = await reader.read_at(0, MANIFEST_MAX + 1)
    return decode(data, descriptor.media_type)


def select(index: Index, matcher: Matcher, what: str) -> Descriptor:
    """Return the manifest for the platform that fits best; nested indexes are not looked into.

    Raises:
      NotFound: the index has none that runs here; it says what it has.
    """
    offers: Sequence[Descriptor] = [
        child for child in index.manifests if child.media_type in MANIFEST_TYPES
    ]
    best = matcher.best([child.platform for child in offers])
    if best is not None:
        return offers[best]
    named = sorted({str(child.platform) for child in offers if child.platform})
    raise NotFound(
        f"{what} has no image for {matcher.wanted}; it has {', '.join(named[:20]) or 'none at all'}"
    )
