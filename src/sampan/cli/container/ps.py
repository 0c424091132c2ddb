"""`sampan ps`."""

from __future__ import annotations

import argparse
import json
import shlex

from sampan.cli.app import App
from sampan.cli.output import age, table
from sampan.client.containers import View, command_of, views

__all__ = ["configure", "run", "status_of"]

_COMMAND_MAX = 20


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    parser.add_argument("-q", "--quiet", action="store_true", help="ids only")
    parser.add_argument("--no-trunc", action="store_true")
    parser.add_argument("--format", default="", choices=("", "json"))


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        found = await views(client)
    shown = [one for one in found if args.all or one.state in ("running", "paused")]
    ids = [one.container.id if args.no_trunc else one.container.id[:12] for one in shown]
    if args.quiet:
        for key in ids:
            print(key)
    elif args.format == "json":
        for key, one in zip(ids, shown, strict=True):
            values = {
                "ID": key,
                "Image": one.container.image,
                "Names": one.name,
                "State": one.state,
            }
            print(json.dumps({**values, "Status": status_of(one), "Command": _command(one, False)}))
    else:
        table(
            ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"),
            [
                (
                    key,
                    one.container.image,
                    _command(one, not args.no_trunc),
                    f"{age(one.container.created_at.timestamp())} ago",
                    status_of(one),
                    one.name,
                )
                for key, one in zip(ids, shown, strict=True)
            ],
        )
    return 0


def _command(one: View, cut: bool) -> str:
    text = shlex.join(command_of(one.container))
    return f'"{text[: _COMMAND_MAX - 1]}…"' if cut and len(text) > _COMMAND_MAX else f'"{text}"'


def status_of(one: View) -> str:
    """Return docker's words for a container's state."""
    if one.state == "exited":
        return f"Exited ({one.exit_status}) {age(one.exited_at_ns / 1e9)} ago"
    return {"running": "Up", "paused": "Up (Paused)", "created": "Created"}[one.state]
