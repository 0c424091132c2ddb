"""What could stand where the cursor is: verbs, flags, and names of containers and images."""

from __future__ import annotations

import argparse
import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from sampan.cli.commands import COMMANDS, NOUNS

if TYPE_CHECKING:
    from sampan.cli.app import App

__all__ = ["words"]

_CONTAINERS: Final = frozenset(("container", "containers"))
_IMAGES: Final = frozenset(("image", "images", "reference"))
_VOLUMES: Final = frozenset(("volumes",))
_NETWORKS: Final = frozenset(("networks",))


def words(app: App, typed: list[str]) -> list[str]:
    """Return what may stand in place of the last of `typed`, which may be empty."""
    *before, last = typed or [""]
    verb = [word for word in before if not word.startswith("-")]
    if not verb:
        return sorted({*COMMANDS, *NOUNS} - {name for name in COMMANDS if " " in name})
    if verb[0] in NOUNS:
        if len(verb) == 1:
            return sorted(NOUNS[verb[0]])
        name = NOUNS[verb[0]].get(verb[1], "")
    else:
        name = verb[0]
    if name not in COMMANDS:
        return []
    parser = argparse.ArgumentParser(prog="sampan", conflict_handler="resolve")
    module: Any = import_module(f"sampan.cli.{COMMANDS[name].module}")
    module.configure(parser)
    actions = parser._actions  # noqa: SLF001
    if last.startswith("-"):
        return sorted(flag for action in actions for flag in action.option_strings)
    for action in actions:
        if action.choices and before[-1:] and before[-1] in action.option_strings:
            return [str(choice) for choice in action.choices]
    places = {action.dest for action in actions if not action.option_strings}
    return asyncio.run(_names(app, places))


async def _names(app: App, places: set[str]) -> list[str]:
    found: list[str] = []
    async with app.client() as client:
        if places & _CONTAINERS:
            from sampan.client.containers import LABEL_NAME

            found += [one.labels.get(LABEL_NAME, one.id) for one in await client.containers.list()]
        if places & _IMAGES:
            from sampan.cli.image.listing import rows_of

            rows = await rows_of(client, [])
            found += [f"{row['Repository']}:{row['Tag']}" for row in rows]
        if places & _VOLUMES:
            from sampan.client.volumes import Volumes

            found += [one.name for one in await Volumes(client).list()]
        if places & _NETWORKS:
            found += [one.name for one in await client.network_store.list()]
    return sorted(found)
