"""`sampan cp`: files and folders into a container, and out of it, running or not."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound, Unimplemented

if TYPE_CHECKING:
    from sampan.sandbox.resting import Tree

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="accepted: nothing is said")
    parser.add_argument("-u", "--user", default="", metavar="USER", help="owner of what is new")
    parser.add_argument("source", help="PATH here, or CONTAINER:PATH")
    parser.add_argument("target", help="the other of the two")


def _parts(text: str) -> tuple[str, str]:
    """Split `CONTAINER:PATH`; a path that looks so is written as `./a:b`."""
    name, colon, path = text.partition(":")
    if not colon or not name or text.startswith(("/", ".")):
        return "", text
    return name, f"/{path.lstrip('/')}" if path else "/"


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)


def _is_there(path: str) -> bool:
    return os.path.lexists(path)


def _name_of(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


async def run(app: App, args: argparse.Namespace) -> int:
    source, target = _parts(args.source), _parts(args.target)
    if bool(source[0]) == bool(target[0]):
        raise InvalidArgument("cp: one of the two is CONTAINER:PATH, the other is a path here")
    if "-" in (args.source, args.target):
        raise Unimplemented("cp: archives by - are not there yet: use export, or tar with exec")
    async with app.library() as client:
        from sampan.sandbox.resting import tree_of

        if source[0]:
            await _out(await tree_of(client, source[0]), source[1], args.target)
        else:
            await _in(await tree_of(client, target[0]), args.source, target[1], args.user)
    return 0


async def _out(tree: Tree, source: str, target: str) -> None:
    if _is_folder(target) and not source.endswith("/."):
        name = os.path.basename(source.rstrip("/"))
        target = os.path.join(target, name)
    elif target.endswith("/") and (await tree.stat(source)).kind != "folder":
        raise NotFound(f"cp: there is no folder {target}")
    await tree.download(source.removesuffix("/.") or "/", target)


async def _in(tree: Tree, source: str, target: str, user: str) -> None:
    if not _is_there(source):
        raise NotFound(f"cp: no such file here: {source}")
    try:
        folder = (await tree.stat(f"{target.rstrip('/')}/.")).kind == "folder"
    except (NotFound, FailedPrecondition):  # not there, or no folder
        folder = False
        if target.endswith("/") and not _is_folder(source):
            raise NotFound(f"cp: there is no folder {target} in the container") from None
    if folder and not source.endswith("/."):
        name = _name_of(source)
        target = f"{target.rstrip('/')}/{name}"
    await tree.upload(source, target, user=user)
