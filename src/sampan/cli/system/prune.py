"""`sampan system prune`: remove stopped containers, unnamed and unused things, garbage."""

from __future__ import annotations

import argparse
import sys

from sampan.cli.app import App, Quit

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    parser.add_argument("--volumes", action="store_true", help="anonymous volumes, too")
    parser.add_argument("-a", "--all", action="store_true", help="images without container, too")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.containers import remove, views
    from sampan.client.images import canonical
    from sampan.errors import SampanError

    if not args.force:
        if not sys.stdin.isatty():
            raise Quit(1, "system prune asks before it removes: use -f where nobody answers")
        sys.stdout.write("Remove all stopped containers and what nothing uses? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    problems = []
    async with app.client() as client:
        for view in await views(client):
            if view.state in ("exited", "created"):
                try:
                    await remove(client, view.container)
                    print(f"removed container {view.name or view.container.id[:12]}")
                except SampanError as err:
                    problems.append(str(err))
        if args.all:
            used = {canonical(one.image) for one in await client.containers.list()}
            for image in await client.images.list():
                if image.name not in used:
                    await client.images.delete(image.name)
                    print(f"removed image {image.name}")
        if args.volumes:
            from sampan.client.volumes import Volumes

            for name in await Volumes(client).prune():
                print(f"removed volume {name}")
        print(f"collected {await client.collect_garbage()} objects")
    if problems:
        raise Quit(1, "; ".join(problems))
    return 0
