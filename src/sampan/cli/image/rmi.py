"""`sampan rmi`: remove images, and what only they kept."""

from __future__ import annotations

import argparse

from sampan.cli.app import App, Quit
from sampan.errors import Aborted, NotFound, SampanError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="also those of containers")
    parser.add_argument("images", nargs="+", metavar="image")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.images import canonical, find

    problems = []
    async with app.client() as client:
        used = {canonical(one.image): one.id for one in await client.containers.list()}
        for name in args.images:
            try:
                image = await find(client, name)
                if image.name in used and not args.force:
                    raise Aborted(
                        f"image {image.name} is used by container {used[image.name][:12]}: "
                        "remove that first, or use -f"
                    )
                await client.images.delete(image.name)
            except NotFound as err:
                if not args.force:
                    problems.append(str(err))
            except SampanError as err:
                problems.append(str(err))
            else:
                print(f"untagged: {image.name}")
        await client.collect_garbage()
    if problems:
        raise Quit(1, "; ".join(problems))
    return 0
