"""`sampan rename`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.client.containers import LABEL_NAME, Folder, find, relabel
from sampan.concurrency import to_thread

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container")
    parser.add_argument("name")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        one = await find(client, args.container)
        old = one.labels.get(LABEL_NAME, "")
        await to_thread(Folder(client, one.id).rename, old, args.name)
        await relabel(client, one, {LABEL_NAME: args.name})
    return 0
