"""`sampan save`: write images to an archive, or to a folder."""

from __future__ import annotations

import argparse
import os
import sys
from io import BufferedWriter
from pathlib import Path

from sampan.cli.app import App, Quit
from sampan.concurrency import to_thread
from sampan.errors import AlreadyExists, InvalidArgument

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="", metavar="FILE", help="in place of stdout")
    parser.add_argument("--directory", action="store_true", help="FILE is a folder to create")
    parser.add_argument(
        "--format",
        choices=("docker", "oci"),
        default="docker",
        help="docker: what `docker load` reads, too; oci: an OCI layout alone",
    )
    parser.add_argument("--platform", default="", metavar="OS/ARCH", help="only this one's image")
    parser.add_argument("images", nargs="+", metavar="image")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.images import find
    from sampan.model import platform as platforms

    if not args.output and (args.directory or sys.stdout.isatty()):
        raise Quit(1, "an archive is not for a terminal: name a file with -o, or redirect")
    matcher = platforms.Matcher(platforms.parse(args.platform)) if args.platform else None
    async with app.client() as client:
        names = [(await find(client, name)).name for name in args.images]
        transfer = await client.transfer()
        docker = args.format == "docker"
        if args.directory:
            folder = Path(args.output)
            await transfer.save(names, folder, docker=docker, platform=matcher)
        elif not args.output:
            await transfer.save(names, sys.stdout.buffer, docker=docker, platform=matcher)
            await to_thread(sys.stdout.buffer.flush)
        else:
            part = Path(f"{args.output}.part-{os.getpid()}")
            try:
                with await to_thread(_create, part) as sink:
                    await transfer.save(names, sink, docker=docker, platform=matcher)
                await to_thread(part.rename, args.output)
            finally:
                await to_thread(part.unlink, True)
    return 0


def _create(path: Path) -> BufferedWriter:
    try:
        return path.open("xb")
    except FileExistsError:
        raise AlreadyExists(f"{path} exists: another save is writing it, or died") from None
    except OSError as err:
        raise InvalidArgument(f"cannot write {path}: {err.strerror}") from err
