"""`sampan image inspect`."""

from __future__ import annotations

import argparse
from typing import Any

from sampan.cli.app import App
from sampan.cli.container.inspect import image_of
from sampan.cli.output import print_found

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--format", default="", metavar="TEMPLATE", help="json, or a template"
    )
    parser.add_argument("images", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:

        async def one(name: str) -> dict[str, Any]:
            return await image_of(client, name)

        return await print_found(args.images, one, args.format)
