"""`sampan ps`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.cli import listing
from sampan.cli.app import App
from sampan.cli.output import age, size
from sampan.client.containers import Folder, View, command_of, views
from sampan.client.images import canonical
from sampan.client.networking import given, of
from sampan.client.volumes import LABEL as VOLUMES
from sampan.errors import InvalidArgument, SampanError

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["configure", "ports_of", "run", "status_of"]

_COMMAND_MAX = 20
_FILTERS = (
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network",
    "publish",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    parser.add_argument("-n", "--last", type=int, default=0, metavar="N", help="the newest N")
    parser.add_argument("-l", "--latest", action="store_true", help="the newest")
    parser.add_argument("-s", "--size", action="store_true", help="how much each has written")
    parser.add_argument("--no-trunc", action="store_true", help="whole ids and commands")
    listing.add(parser, *_FILTERS)


async def run(app: App, args: argparse.Namespace) -> int:
    wanted = listing.filters_of(args.filter, _FILTERS)
    async with app.client() as client:
        found = [one for one in await views(client) if _matches(one, wanted)]
        found = _between(found, await views(client), wanted)
        last = 1 if args.latest else args.last
        everything = args.all or last or wanted.keys() & {"status", "exited"}
        shown = [one for one in found if everything or one.state in ("running", "paused")]
        shown = shown[:last] if last else shown
        rows = [await _row(client, one, args) for one in shown]
    columns = {
        "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedSince": "CREATED",
        "Status": "STATUS", "Ports": "PORTS", "Names": "NAMES",
    }  # fmt: skip
    if args.size:
        columns["Size"] = "SIZE"
    for row in rows:
        row["CreatedSince"] = row.pop("RunningFor")
        row["RunningFor"] = row["CreatedSince"]
    listing.show(args, rows, columns, key="ID")
    return 0


async def _row(client: Client, one: View, args: argparse.Namespace) -> dict[str, Any]:
    container = one.container
    own = {k: v for k, v in container.labels.items() if not k.startswith("sampan/")}
    written = ""
    if args.size:
        written = await _size(client, one)
    return {
        "ID": container.id if args.no_trunc else container.id[:12],
        "Image": container.image,
        "Command": _command(one, not args.no_trunc),
        "CreatedAt": container.created_at.isoformat(sep=" ", timespec="seconds"),
        "RunningFor": f"{age(container.created_at.timestamp())} ago",
        "Status": status_of(one),
        "State": one.state,
        "Ports": ports_of(Folder(client, container.id)) if one.state == "running" else "",
        "Names": one.name,
        "Labels": ",".join(f"{key}={value}" for key, value in own.items()),
        "Mounts": container.labels.get(VOLUMES, ""),
        "Networks": ",".join(of(container.labels).names),
        "Size": written,
    }


async def _size(client: Client, one: View) -> str:
    container = one.container
    try:
        usage = await client.snapshots(container.snapshotter).usage(container.snapshot_key)
    except SampanError:
        return "unknown"
    return size(usage.size)


def ports_of(folder: Folder) -> str:
    """Return the published ports of a container, as docker writes them in a list."""
    return ", ".join(
        f"{port['host_ip'] or '0.0.0.0'}:{port['host_port']}"  # noqa: S104
        f"->{port['container_port']}/{port['protocol']}"
        for port in given(folder)["ports"]
    )


def _matches(one: View, wanted: Mapping[str, Sequence[str]]) -> bool:
    container = one.container
    statuses = wanted.get("status", ())
    for status in statuses:
        if status not in ("created", "running", "paused", "exited"):
            raise InvalidArgument(
                f"filter status={status}: there are created, running, paused and exited"
            )
    volumes = container.labels.get(VOLUMES, "").split(",")
    checks = (
        ("id", container.id.startswith),
        ("name", lambda text: text in one.name),
        ("status", lambda text: one.state == text),
        ("exited", lambda text: one.state == "exited" and str(one.exit_status) == text),
        ("ancestor", lambda text: canonical(text) == canonical(container.image)),
        ("volume", lambda text: text in volumes),
        ("network", lambda text: text in of(container.labels).names),
        ("publish", lambda text: text in {str(p.host) for p in of(container.labels).ports}),
    )
    for key, holds in checks:
        if key in wanted and not any(holds(text) for text in wanted[key]):
            return False
    return listing.matches(container.labels, wanted.get("label", ()))


def _between(
    found: list[View], everything: list[View], wanted: Mapping[str, Sequence[str]]
) -> list[View]:
    """Keep those made before or since the containers that the filters name."""

    def made(text: str) -> float:
        for one in everything:
            if text == one.name or one.container.id.startswith(text):
                return one.container.created_at.timestamp()
        raise InvalidArgument(f"filter: no such container: {text}")

    for text in wanted.get("before", ()):
        found = [one for one in found if one.container.created_at.timestamp() < made(text)]
    for text in wanted.get("since", ()):
        found = [one for one in found if one.container.created_at.timestamp() > made(text)]
    return found


def _command(one: View, cut: bool) -> str:
    text = shlex.join(command_of(one.container))
    return f'"{text[: _COMMAND_MAX - 1]}…"' if cut and len(text) > _COMMAND_MAX else f'"{text}"'


def status_of(one: View) -> str:
    """Return docker's words for a container's state."""
    if one.state == "exited":
        return f"Exited ({one.exit_status}) {age(one.exited_at_ns / 1e9)} ago"
    return {"running": "Up", "paused": "Up (Paused)", "created": "Created"}[one.state]
