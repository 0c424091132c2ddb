"""`sampan tag`: give an image another name."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.model.reference import parse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image")
    parser.add_argument("name", help="the new name")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.images import find

    name = str(parse(args.name))
    async with app.client() as client:
        image = await find(client, args.image)
        await (await client.transfer()).tag(image.name, name)
    return 0
