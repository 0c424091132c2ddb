"""`sampan system df`: what takes room on the disk."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.cli.listing import add, show
from sampan.cli.output import size
from sampan.concurrency import to_thread
from sampan.errors import SampanError

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add(parser)


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.containers import views
    from sampan.client.images import canonical
    from sampan.client.volumes import Volumes

    async with app.client() as client:
        seen = await views(client)
        images = await client.images.list()
        used = {canonical(one.container.image) for one in seen}
        blobs = [info.size async for info in client.content.walk()]
        volumes = await Volumes(client).list()
        inside, stopped = 0, 0
        for one in seen:
            weight = await _weight(client, one.container.snapshotter, one.container.snapshot_key)
            inside += weight
            stopped += weight if one.state in ("exited", "created") else 0
        kept = [one for one in volumes if await Volumes(client).users(one.name)]
        weights = {one.name: await to_thread(_size_of, one.path) for one in volumes}
    active = sum(one.name in used for one in images)
    free = sum(weights[one.name] for one in volumes if one not in kept)
    rows = [
        _row("Images", len(images), active, sum(blobs), 0 if active else sum(blobs)),
        _row("Containers", len(seen), sum(o.state == "running" for o in seen), inside, stopped),
        _row("Local Volumes", len(volumes), len(kept), sum(weights.values()), free),
    ]
    columns = {
        "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    }  # fmt: skip
    show(args, rows, columns, key="Type")
    return 0


async def _weight(client: Client, snapshotter: str, key: str) -> int:
    try:
        usage = await client.snapshots(snapshotter).usage(key)
    except SampanError:
        return 0
    return int(usage.size)


def _size_of(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _row(kind: str, total: int, active: int, weight: int, free: int) -> dict[str, object]:
    percent = f" ({100 * free // weight}%)" if weight else ""
    return {
        "Type": kind,
        "TotalCount": total,
        "Active": active,
        "Size": size(weight),
        "Reclaimable": f"{size(free)}{percent}",
    }
