"""`sampan bundle unpack`: an image as a folder that any OCI runtime can run."""

from __future__ import annotations

import argparse
from pathlib import Path

from sampan.cli.app import App

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pull",
        default="missing",
        choices=("always", "missing", "never"),
        help="when to ask the registry",
    )
    parser.add_argument("--platform", default="", metavar="OS/ARCH", help="which image of an index")
    parser.add_argument("image")
    parser.add_argument("folder", type=Path, help="is made; config.json and rootfs go there")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.cli.image.pull import ensure
    from sampan.client.bundles import unpack

    async with app.client() as client:
        if args.pull != "never":
            await ensure(client, args.image, always=args.pull == "always", platform=args.platform)
        await unpack(client, args.image, args.folder.absolute())
    print(args.folder)
    return 0
