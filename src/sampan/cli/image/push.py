"""`sampan push`: send an image to a registry."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.image.progress import shown
from sampan.model.reference import parse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress")
    parser.add_argument("--platform", default="", metavar="OS/ARCH", help="only this one's image")
    parser.add_argument("image", help="an image that is here")
    parser.add_argument("destination", nargs="?", default="", help="where to, if not its own name")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.images import find
    from sampan.model import platform as platforms

    destination = parse(args.destination) if args.destination else None
    matcher = platforms.Matcher(platforms.parse(args.platform)) if args.platform else None
    async with app.client() as client:
        image = await find(client, args.image)
        transfer = await client.transfer()
        with shown(quiet=args.quiet) as sink:
            pushed = await transfer.push(image.name, destination, platform=matcher, progress=sink)
        print(f"{destination or image.name} digest: {pushed.digest} size: {pushed.size}")
    return 0
