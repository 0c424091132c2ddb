"""Rows of `sampan images`: what each image is called, when it was made, how large it is."""

from __future__ import annotations

import fnmatch
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sampan.client.images import manifest_of, read
from sampan.errors import SampanError
from sampan.model.image import decode_config
from sampan.model.reference import Reference, parse_exact

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Image

__all__ = ["rows_of"]


async def rows_of(client: Client, patterns: list[str]) -> list[dict[str, Any]]:
    """Return a row for each image whose name matches one of the patterns, or for all."""
    rows = []
    for image in await client.images.list():
        reference = _reference(image.name)
        familiar = reference.familiar if reference else image.name
        plain = familiar.rpartition(":")[0]
        names = (image.name, familiar, plain)
        if patterns and not any(fnmatch.fnmatchcase(n, p) for p in patterns for n in names):
            continue
        rows.append(await _row(client, image, reference, plain if reference else image.name))
    return rows


def _reference(name: str) -> Reference | None:
    try:
        return parse_exact(name)
    except SampanError:
        return None


async def _row(
    client: Client, image: Image, reference: Reference | None, repository: str
) -> dict[str, Any]:
    shown, size, created = str(image.target.digest), 0, image.created_at.timestamp()
    try:
        manifest = await manifest_of(client, image.target)
        size = sum(layer.size for layer in manifest.layers) + manifest.config.size
        shown = str(manifest.config.digest)
        created = _seconds(decode_config(await read(client, manifest.config)).created, created)
    except SampanError:
        size = image.target.size  # another platform's, or an artifact: what is known of it
    return {
        "Repository": repository or image.name,
        "Tag": (reference.tag if reference else "") or "<none>",
        "Digest": str(image.target.digest),
        "ID": shown,
        "CreatedAtSeconds": created,
        "SizeBytes": size,
    }


def _seconds(text: str | None, default: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text else default
    except ValueError:
        return default
