"""`sampan image prune`: remove images that no container uses, and what nothing refers to."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.output import confirm

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    parser.add_argument("-a", "--all", action="store_true", help="those with a tag, too")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.images import canonical

    kind = "all images without container" if args.all else "images without a name"
    if not confirm(f"Remove {kind}?", force=args.force):
        return 1
    async with app.client() as client:
        used = {canonical(one.image) for one in await client.containers.list()}
        for image in await client.images.list():
            nameless = "@" in image.name and ":" not in image.name.partition("@")[0]
            if image.name not in used and (args.all or nameless):
                await client.images.delete(image.name)
                print(f"removed image {image.name}")
        print(f"collected {await client.collect_garbage()} objects")
    return 0
