"""`sampan volume rm`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.output import each_name

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="one that is missing is fine")
    parser.add_argument("volumes", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.volumes import Volumes

    async with app.client() as client:
        return await each_name(args.volumes, Volumes(client).remove, missing_ok=args.force)
