"""`sampan export`: a container's files as a tar archive."""

from __future__ import annotations

import argparse
import sys

from sampan.cli.app import App, Quit

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="", metavar="FILE", help="in place of stdout")
    parser.add_argument("container")


async def run(app: App, args: argparse.Namespace) -> int:
    if not args.output and sys.stdout.isatty():
        raise Quit(1, "export: an archive is nothing for a terminal: use -o, or redirect stdout")
    async with app.library() as client:
        from sampan.sandbox.resting import tree_of

        await (await tree_of(client, args.container)).export(args.output or "/dev/stdout")
    return 0
