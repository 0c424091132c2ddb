"""The debug socket: what the daemon is doing, for whoever may open it (mode 0660).

curl --unix-socket /run/sampan/debug.sock http://./stacks      threads, and tasks of the loop
                                                   /tasks      containers with a process, JSON
                                                   /plugins    the graph, JSON
                                                   /config     the settings in force, TOML
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan import context
from sampan.daemon.http import Answer, Route
from sampan.daemon.stacks import stacks
from sampan.engine import Engine
from sampan.engine.toml import dumps
from sampan.plugin import Instance

if TYPE_CHECKING:
    from sampan.runtime import ProcessState

__all__ = ["routes", "task_states"]

_JSON = "application/json"


def routes(engine: Engine, plugins: Sequence[Instance]) -> Mapping[str, Route]:
    """Return what the socket answers."""

    async def answer_stacks() -> Answer:
        return Answer(stacks(asyncio.get_running_loop()).encode())

    async def answer_tasks() -> Answer:
        found = await task_states(engine)
        return Answer(_json({where: [_task(one) for one in states] for where, states in found}))

    async def answer_plugins() -> Answer:
        return Answer(_json([_plugin(one) for one in plugins]), _JSON)

    async def answer_config() -> Answer:
        settings = engine.settings
        head = {
            "root": str(settings.root),
            "state": str(settings.state),
            "address": str(settings.address),
            "hosts_dir": str(settings.hosts_dir),
            "log_level": settings.log_level,
            "log_format": settings.log_format,
            "runtime": settings.runtime,
            "snapshotter": settings.snapshotter,
            "plugins": dict(settings.plugins),
        }
        return Answer(dumps(head).encode(), "application/toml")

    return {
        "/stacks": answer_stacks,
        "/tasks": answer_tasks,
        "/plugins": answer_plugins,
        "/config": answer_config,
    }


async def task_states(engine: Engine) -> list[tuple[str, list[ProcessState]]]:
    """Return the tasks of every namespace."""
    found = []
    for namespace in await engine.metadata.namespaces.list():
        with context.scope(namespace.name):
            found.append((namespace.name, await engine.tasks.list()))
    return found


def _task(state: ProcessState) -> dict[str, Any]:
    return {
        "id": state.id,
        "pid": state.pid,
        "status": state.status.name.lower(),
        "exit_status": state.exit_status,
        "exited_at_ns": state.exited_at_ns,
        "bundle": state.bundle,
    }


def _plugin(one: Instance) -> dict[str, Any]:
    return {
        "type": str(one.registration.type),
        "id": one.registration.id,
        "requires": [str(needed) for needed in one.registration.requires],
        "capabilities": one.capabilities,
        "exports": one.exports,
        "error": one.init_err,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
