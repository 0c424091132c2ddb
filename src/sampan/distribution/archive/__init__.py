"""Images in files: OCI layouts and docker save archives, in both directions.

    found = await load(content, source)           # a tar (plain, gzip, zstd), or a folder
    await save(content, [("redis:7", target)], sink, docker=True)

A source is a folder, or anything with a blocking `read`: a file, a pipe, standard input. It is read
once, from front to back. A sink is a folder that is created, or anything with a blocking `write`.

    oci-layout, index.json, blobs/<algorithm>/<hex>         OCI; written always
    manifest.json, repositories                             Docker's; written beside it on request
    <hex>.json, <id>/layer.tar, <hex>.tar                   Docker's older names; read, not written

An archive is hostile (vulnerabilities: import bombs, links out of the archive): names are relative
and without `..`; links lead only to members of the archive and nothing follows one on disk; other
kinds of members are refused; documents are capped; a blob is what its name says, or nothing is
imported under it.

Source: image-spec image-layout.md; Docker image spec v1.2, "Combined Image JSON + Filesystem".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sampan.distribution.archive.load import load, load_all
    from sampan.distribution.archive.save import save
    from sampan.model.descriptor import Descriptor

__all__ = ["Found", "Loaded", "Readable", "Writable", "load", "load_all", "save"]


class Readable(Protocol):
    """A binary stream; fewer bytes than asked for are not its end, none are."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """A binary stream that takes everything."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Found:
    """An image of an archive whose content is in the store now."""

    name: str
    """As the archive has it, normalised; empty if it names none, or not by a reference."""
    target: Descriptor
    annotations: Mapping[str, str] = field(default_factory=dict)
    """What the archive says of it; for Docker's, the same in OCI's words."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An archive whose content is in the store now."""

    index: bytes
    """Its index.json; for Docker's archives, what it would be."""
    images: Sequence[Found]


def __getattr__(name: str) -> object:
    if name not in {"load", "load_all", "save"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["load"] = import_module(f"{__name__}.load").load
    globals()["load_all"] = import_module(f"{__name__}.load").load_all
    globals()["save"] = import_module(f"{__name__}.save").save
    value: object = globals()[name]
    return value
