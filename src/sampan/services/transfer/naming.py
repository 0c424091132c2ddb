"""The names under which an ImageStore of a request records what was transferred."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from sampan.api.containerd.types.transfer import imagestore_pb2 as pb
from sampan.metadata import Image
from sampan.model.descriptor import Descriptor

__all__ = ["named", "records"]

_NAME: Final = "io.containerd.image.name"
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_BACK: Final = "containerd.io/gc.bref.image"
_EXPIRE: Final = "containerd.io/gc.expire"


def records(store: pb.ImageStore, target: Descriptor) -> list[Image]:
    """Return the records of what was asked for by name: the store's own, and extra references.

    A prefix alone names nothing here; one that adds the digest does.
    """
    found = []
    if store.name:
        found.append(Image(name=store.name, target=target, labels=dict(store.labels)))
    for reference in store.extra_references:
        if reference.is_prefix and not reference.add_digest:
            continue
        name = f"{reference.name}@{target.digest}" if reference.add_digest else reference.name
        found.append(Image(name=name, target=target, labels=_extra(store)))
    return found


def named(store: pb.ImageStore, target: Descriptor, annotations: Mapping[str, str]) -> list[Image]:
    """Return the records of one image of an archive, by what the archive says of it.

    Only prefixes count: a full name must be below one, or the reference allows any; a tag is
    appended to it. A digest reference is added where asked for: always, or for the unnamed alone.
    """
    bare = msgspec.structs.replace(target, annotations=dict(annotations) or None)
    found = []
    for reference in store.extra_references:
        if not reference.is_prefix:
            continue
        name = _name(annotations, reference)
        if name:
            found.append(name)
        if reference.add_digest and not (name and reference.skip_named_digest):
            found.append(f"{reference.name}@{target.digest}")
    return [Image(name=name, target=bare, labels=_extra(store)) for name in found]


def _extra(store: pb.ImageStore) -> dict[str, str]:
    """Return the labels of a further name: beside a main one it goes when that goes."""
    if not store.name:
        return dict(store.labels)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**store.labels, _BACK: store.name, _EXPIRE: now}


def _name(annotations: Mapping[str, str], reference: pb.ImageReference) -> str:
    if full := annotations.get(_NAME, ""):
        # A name that would have to be changed is somebody else's.
        return full if _below(full, reference) == full else ""
    tag = annotations.get(_REF_NAME, "")
    return _below(tag, reference) if tag else ""


def _below(name: str, reference: pb.ImageReference) -> str:
    prefix = reference.name
    if not prefix:
        return ""
    if not any(mark in name for mark in "/:@"):
        return f"{prefix}:{name}"
    if reference.allow_overwrite:
        return name
    rest = name.removeprefix(prefix)
    return name if rest != name and rest[:1] in ("", "/", ":", "@") else ""
