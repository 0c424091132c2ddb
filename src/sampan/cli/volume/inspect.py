"""`sampan volume inspect`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.output import print_found

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--format", default="", metavar="TEMPLATE", help="json, or a template"
    )
    parser.add_argument("volumes", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.volumes import Volumes

    async with app.client() as client:
        store = Volumes(client)

        async def one(name: str) -> dict[str, object]:
            found = await store.get(name)
            return {
                "Name": found.name,
                "Driver": "local",
                "Mountpoint": str(found.path),
                "CreatedAt": found.created_at.isoformat(),
                "Labels": dict(found.labels),
                "Scope": "local",
                "Anonymous": found.anonymous,
                "UsedBy": await store.users(name),
            }

        return await print_found(args.volumes, one, args.format)
