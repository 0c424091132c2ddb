"""`sampan commit`: an image of what a container has written."""

from __future__ import annotations

import argparse
import json
import shlex
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.concurrency import shielded
from sampan.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sampan.client import Client
    from sampan.client.committing import Changes
    from sampan.metadata import Container

__all__ = ["changes_of", "configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--author", default="", help="written into the image's history")
    parser.add_argument("-m", "--message", default="", help="likewise")
    parser.add_argument(
        "-c", "--change", action="append", default=[], metavar="INSTRUCTION",
        help="CMD, ENTRYPOINT, ENV, LABEL, USER or WORKDIR, as in a Dockerfile",
    )  # fmt: skip
    parser.add_argument(
        "-p", "--pause", default="true", choices=("true", "false"), help="stop its time meanwhile"
    )
    parser.add_argument("container")
    parser.add_argument("image", help="name of the new image")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.committing import commit_container
    from sampan.client.containers import find

    changes = changes_of(args.change, args.author, args.message)
    async with app.client(warm=True) as client:
        container = await find(client, args.container)
        async with _paused(client, container, args.pause == "true"):
            image = await commit_container(client, container, args.image, changes)
        print(image.target.digest)
    return 0


@asynccontextmanager
async def _paused(client: Client, container: Container, wanted: bool) -> AsyncIterator[None]:
    from sampan.client.containers import view

    if not wanted or (await view(client, container)).state != "running":
        yield
        return
    await client.tasks.pause(container.id)
    try:
        yield
    finally:
        await shielded(20, client.tasks.resume(container.id))


def changes_of(texts: list[str], author: str, message: str) -> Changes:
    """Return what Dockerfile instructions change of an image's config.

    Raises:
      InvalidArgument: one is unknown or malformed.
    """
    from sampan.client.committing import Changes

    found: dict[str, str] = {}
    env: list[str] = []
    labels: list[tuple[str, str]] = []
    for text in texts:
        name, _, rest = text.strip().partition(" ")
        name, rest = name.upper(), rest.strip()
        if name in ("ENV", "LABEL"):
            for key, value in _pairs(text, rest):
                if name == "ENV":
                    env.append(f"{key}={value}")
                else:
                    labels.append((key, value))
        elif name in ("CMD", "ENTRYPOINT", "USER", "WORKDIR") and rest:
            found[name] = rest
        else:
            raise InvalidArgument(
                f"change {text!r}: there are CMD, ENTRYPOINT, ENV, LABEL, USER and WORKDIR"
            )
    return Changes(
        entrypoint=_command(found["ENTRYPOINT"]) if "ENTRYPOINT" in found else None,
        cmd=_command(found["CMD"]) if "CMD" in found else None,
        env=tuple(env),
        user=found.get("USER", ""),
        working_dir=found.get("WORKDIR", ""),
        labels=tuple(labels),
        author=author,
        message=message,
    )


def _pairs(text: str, rest: str) -> list[tuple[str, str]]:
    try:
        words = shlex.split(rest)
    except ValueError as err:
        raise InvalidArgument(f"change {text!r}: {err}") from err
    if words and "=" not in words[0] and len(words) > 1:
        return [(words[0], " ".join(words[1:]))]  # the old form: ENV KEY VALUE
    if not words or any("=" not in word or word.startswith("=") for word in words):
        raise InvalidArgument(f"change {text!r} is not KEY=VALUE")
    return [tuple(word.split("=", 1)) for word in words]  # type: ignore[misc]


def _command(text: str) -> tuple[str, ...]:
    """Return a command in either form: a JSON list, or a line for the shell."""
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError as err:
            raise InvalidArgument(f"change: {text!r} is no JSON list: {err}") from err
        if not all(isinstance(word, str) for word in words):
            raise InvalidArgument(f"change: {text!r} is no list of strings")
        return tuple(words)
    return ("/bin/sh", "-c", text)
