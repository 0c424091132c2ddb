"""`sampan load`: read images from an archive, a layout folder, or stdin."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sampan.cli.app import App, Quit
from sampan.cli.image.tidy import tidied
from sampan.concurrency import to_thread
from sampan.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.distribution.archive import Found

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--input", default="", metavar="FILE", help="in place of stdin")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing")


async def run(app: App, args: argparse.Namespace) -> int:
    if not args.input and sys.stdin.isatty():
        raise Quit(1, "load reads an archive from stdin: name a file with -i, or redirect")
    async with app.client() as client:
        found = await _load(client, args.input)
        transfer = await client.transfer()
        for image in found:
            name = image.name
            if not name:
                # Nothing would keep it, and nobody could name it.
                digest = str(image.target.digest)
                name = f"loaded@{digest}"
                await transfer.record(name, image.target)
            if not args.quiet:
                print(f"loaded image: {name}")
    return 0


async def _load(client: Client, path: str) -> list[Found]:
    transfer = await client.transfer()
    async with tidied(client):
        if not path:
            return await transfer.load(sys.stdin.buffer)
        if await to_thread(os.path.isdir, path):
            return await transfer.load(Path(path))
        with await to_thread(_open, path) as source:
            return await transfer.load(source)


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise NotFound(f"no archive {path}") from None
    except OSError as err:
        raise InvalidArgument(f"cannot read {path}: {err.strerror}") from err
