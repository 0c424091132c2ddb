"""`sampan history`: how an image was made, layer by layer."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from sampan.cli.app import App
from sampan.cli.listing import add, show
from sampan.cli.output import age, size

__all__ = ["configure", "run"]

_CREATED_BY_MAX = 45


def configure(parser: argparse.ArgumentParser) -> None:
    add(parser)
    parser.add_argument("--no-trunc", action="store_true", help="whole ids and commands")
    parser.add_argument(
        "-H",
        "--human",
        default="true",
        choices=("true", "false"),
        help="sizes and times for people",
    )
    parser.add_argument("image")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client import images

    async with app.client() as client:
        image = await images.find(client, args.image)
        manifest = await images.manifest_of(client, image.target)
        config = await images.config_of(client, image)
    sizes = [layer.size for layer in manifest.layers]
    rows: list[dict[str, Any]] = []
    for entry in config.history or ():
        weight = 0 if entry.empty_layer or not sizes else sizes.pop(0)
        made = entry.created_by or ""
        if not args.no_trunc and len(made) > _CREATED_BY_MAX:
            made = f"{made[: _CREATED_BY_MAX - 1]}…"
        human = args.human == "true"
        rows.append(
            {
                "ID": "<missing>",
                "CreatedAt": entry.created or "",
                "CreatedSince": _since(entry.created or "") if human else entry.created or "",
                "CreatedBy": made,
                "Size": size(weight) if human else weight,
                "Comment": entry.comment or "",
            }
        )
    rows += [_unknown(weight) for weight in sizes]  # layers that the history does not speak of
    rows.reverse()
    if rows:
        digest = str(manifest.config.digest)
        rows[0]["ID"] = digest if args.no_trunc else digest.partition(":")[2][:12]
    columns = {
        "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE",
        "Comment": "COMMENT",
    }  # fmt: skip
    show(args, rows, columns, key="ID")
    return 0


def _unknown(weight: int) -> dict[str, Any]:
    row = dict.fromkeys(("CreatedAt", "CreatedBy", "Comment"), "")
    return {**row, "ID": "<missing>", "CreatedSince": "N/A", "Size": size(weight)}


def _since(text: str) -> str:
    try:
        return f"{age(datetime.fromisoformat(text).timestamp())} ago"
    except ValueError:
        return "N/A"
