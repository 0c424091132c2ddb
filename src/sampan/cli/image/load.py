"""`sampan load`: read images from an archive, a layout folder, or stdin."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO

from sampan.cli.app import App, Quit
from sampan.concurrency import to_thread
from sampan.errors import InvalidArgument, NotFound

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--input", default="", metavar="FILE", help="in place of stdin")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing")


async def run(app: App, args: argparse.Namespace) -> int:
    if not args.input and sys.stdin.isatty():
        raise Quit(1, "load reads an archive from stdin: name a file with -i, or redirect")
    async with app.client() as client:
        transfer = await client.transfer()
        if args.input and Path(args.input).is_dir():
            found = await transfer.load(Path(args.input))
        elif args.input:
            with await to_thread(_open, args.input) as source:
                found = await transfer.load(source)
        else:
            found = await transfer.load(sys.stdin.buffer)
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


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")  # noqa: SIM115 - the caller's
    except FileNotFoundError:
        raise NotFound(f"no archive {path}") from None
    except OSError as err:
        raise InvalidArgument(f"cannot read {path}: {err.strerror}") from err
