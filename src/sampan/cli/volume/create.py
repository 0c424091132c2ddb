"""`sampan volume create`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.errors import InvalidArgument

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--driver", default="local", metavar="local", help="kind")
    parser.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="a label of the container"
    )
    parser.add_argument("name", nargs="?", default="", help="an invented one if missing")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.volumes import Volumes

    if args.driver != "local":
        raise InvalidArgument(f"volume driver {args.driver!r}: there is local alone")
    labels = dict(text.partition("=")[::2] for text in args.label)
    async with app.client() as client:
        print((await Volumes(client).create(args.name, labels=labels, exist_ok=True)).name)
    return 0
