"""`sampan image from-host NAME PATH...`: an image of programs that are installed here."""

from __future__ import annotations

import argparse
import os
import shlex

from sampan.cli.app import App
from sampan.cli.image.tidy import tidied
from sampan.errors import InvalidArgument, NotFound
from sampan.model.reference import parse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cmd", default="", help="command, split as a shell would")
    parser.add_argument("--entrypoint", default="", help="entrypoint, split as a shell would")
    parser.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a variable; a bare name takes ours",
    )
    parser.add_argument("-w", "--workdir", default="", metavar="DIR", help="working folder inside")
    parser.add_argument(
        "-u", "--user", default="", metavar="USER[:GROUP]", help="who runs it, by name or number"
    )
    parser.add_argument(
        "-l",
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a label of the container",
    )
    parser.add_argument("--layers", type=int, default=1, metavar="N", help="divide into so many")
    parser.add_argument("--compression", choices=("gzip", "zstd", "none"), default="gzip")
    parser.add_argument("--ca-certificates", action="store_true", help="add the host's CA bundle")
    parser.add_argument("name", help="of the image, such as tools:1")
    parser.add_argument("paths", nargs="+", metavar="path", help="programs, files or folders")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.distribution.from_host import Recipe, build

    name = str(parse(args.name))
    if args.layers < 1:
        raise InvalidArgument("--layers must be at least 1")
    recipe = Recipe(
        groups=(tuple(_path(path) for path in args.paths),),
        split=args.layers,
        entrypoint=tuple(shlex.split(args.entrypoint)),
        cmd=tuple(shlex.split(args.cmd)),
        env=tuple(args.env),
        working_dir=args.workdir,
        user=args.user,
        labels=tuple(_label(text) for text in args.label),
        ca_certificates=args.ca_certificates,
        compression="" if args.compression == "none" else args.compression,
    )
    async with app.client() as client:
        transfer = await client.transfer()
        async with tidied(client), transfer.lease():
            target = await build(client.content, recipe)
            await transfer.record(name, target)
        print(f"{name} {target.digest}")
    return 0


def _path(text: str) -> str:
    if "/" not in text:
        return text  # a program, found on the recipe's own search path, not on the caller's PATH
    path = os.path.abspath(text)
    if not os.path.lexists(path):
        raise NotFound(f"no file {path} on this host")
    return path


def _label(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise InvalidArgument(f"label {text!r} is not KEY=VALUE")
    return key, value
