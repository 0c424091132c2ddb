"""`sampan pull`: fetch an image from a registry, and unpack it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.cli.image.progress import shown
from sampan.cli.image.tidy import tidied
from sampan.errors import InvalidArgument, NotFound
from sampan.model.reference import parse

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Image

__all__ = ["configure", "ensure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="print the name alone")
    parser.add_argument("--platform", default="", metavar="OS/ARCH", help="of an index")
    parser.add_argument("--all-platforms", action="store_true", help="every image of an index")
    parser.add_argument("--no-unpack", action="store_true", help="fetch only")
    parser.add_argument("image")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        image = await fetch(
            client,
            args.image,
            platform=args.platform,
            quiet=args.quiet,
            all_platforms=args.all_platforms,
            unpack=not args.no_unpack,
        )
        if not args.quiet:
            print(f"digest: {image.target.digest}")
        print(image.name)
    return 0


async def fetch(
    client: Client,
    name: str,
    *,
    platform: str = "",
    quiet: bool = False,
    all_platforms: bool = False,
    unpack: bool = True,
) -> Image:
    """Pull an image and return its record.

    Raises:
      InvalidArgument: no reference, or no platform.
      SampanError: as the registry says.
    """
    from sampan.model import platform as platforms

    reference = parse(name)
    matcher = platforms.Matcher(platforms.parse(platform)) if platform else None
    transfer = await client.transfer()
    async with tidied(client):
        with shown(quiet=quiet) as sink:
            return await transfer.pull(
                reference,
                platform=matcher,
                all_platforms=all_platforms,
                unpack=unpack,
                progress=sink,
            )


async def ensure(
    client: Client, name: str, *, always: bool = False, platform: str = "", quiet: bool = False
) -> None:
    """Pull an image for `run` and `create`, if it is not here or `always`.

    Raises:
      SampanError: as `fetch`.
    """
    from sampan.client.images import find

    if not always:
        try:
            await find(client, name)
        except NotFound:
            if name.startswith("sha256:"):
                raise
        else:
            return
    if name.endswith(":"):
        raise InvalidArgument(f"{name!r} is no image: the host's own root is `host:`")
    await fetch(client, name, platform=platform, quiet=quiet)
