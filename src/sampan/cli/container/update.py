"""`sampan update`: other limits, or another restart policy, for containers that are there."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sampan.cli.app import App
from sampan.cli.container.flags.limits import add_updatable, limits_of
from sampan.cli.container.flags.process import restart_labels
from sampan.cli.container.many import each
from sampan.client.containers import relabel, view
from sampan.client.spec.request import Limits
from sampan.client.spec.resources import resources_of
from sampan.errors import InvalidArgument
from sampan.model.opaque import Opaque

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Container

__all__ = ["configure", "run"]

_RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"


def configure(parser: argparse.ArgumentParser) -> None:
    add_updatable(parser)
    parser.add_argument(
        "--restart",
        default="",
        metavar="no|always|on-failure[:N]|unless-stopped",
        help="when sampand starts it again",
    )
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    limits = limits_of(args)
    if limits == Limits() and not args.restart:
        raise InvalidArgument("update: say what shall be other: a limit, or --restart")
    changes = {k: v for k, v in resources_of(limits, ()).to_json().items() if k != "devices"}
    labels = restart_labels(args.restart) if args.restart else {}
    if args.restart == "no":
        labels = {"containerd.io/restart.policy": "no"}
    async with app.client() as client:

        async def update(one: Container) -> None:
            if changes:
                await _limit(client, one, changes)
            if labels:
                await relabel(client, one, labels)

        return await each(client, args.containers, update)


async def _limit(client: Client, one: Container, changes: dict[str, Any]) -> None:
    """Tell the kernel, then write it into the record, for the next start."""
    seen = await view(client, one)
    if seen.task is not None and seen.state != "exited":
        await client.tasks.update(one.id, Opaque(_RESOURCES, json.dumps(changes).encode()))
    spec = json.loads(one.spec.value)
    resources = spec.setdefault("linux", {}).setdefault("resources", {})
    for section, values in changes.items():
        if isinstance(values, dict):
            resources.setdefault(section, {}).update(values)
        else:
            resources[section] = values
    new = replace(one, spec=Opaque(one.spec.type_url, json.dumps(spec).encode()))
    await client.containers.update(new, ["spec"])
