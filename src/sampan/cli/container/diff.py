"""`sampan diff`: what a container has changed of its image's files."""

from __future__ import annotations

import argparse

from sampan.cli.app import App

__all__ = ["configure", "run"]

_LETTERS = {"added": "A", "modified": "C", "deleted": "D"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.library() as client:
        from sampan.sandbox.resting import tree_of

        for change in await (await tree_of(client, args.container)).diff():
            print(f"{_LETTERS[change.kind]} {change.path}")
    return 0
