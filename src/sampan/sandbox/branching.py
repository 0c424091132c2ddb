"""Forks, snapshots, rollbacks and images of a running sandbox.

    fork       prepare a second root upon the same layers, clone what was written, start it
    snapshot   the same root, kept as `<id>/<name>` and never started
    rollback   end all processes, prepare the root anew, clone the snapshot into it, start again

A clone is made while the sandbox is frozen. The names of snapshots stand in a label of the record
before the first of them exists, so that whoever removes the container removes them, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from sampan.client.containers import LABEL_SNAPSHOTS
from sampan.concurrency import shielded, to_thread
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, SampanError
from sampan.sandbox.values import Change
from sampan.sandbox.workers import UPPERS, ask

if TYPE_CHECKING:
    from sampan.model.image import ContainerConfig
    from sampan.model.mounts import Mount as RawMount
    from sampan.sandbox.box import Sandbox

__all__ = ["commit", "diff", "fork", "names", "rollback", "snapshot"]

_ROOT_LABEL: Final = "containerd.io/gc.root"


def _mounts(mounts: Sequence[RawMount]) -> list[list[object]]:
    return [[one.type, one.source, one.target, list(one.options)] for one in mounts]


@asynccontextmanager
async def frozen(box: Sandbox) -> AsyncIterator[None]:
    """Stop the sandbox's time inside the block, unless it has ended or was paused before."""
    from sampan.runtime import Status

    tasks, key = box.client.raw.tasks, box.id
    try:
        running = (await tasks.state(key)).status is Status.RUNNING
        if running:
            await tasks.pause(key)
    except SampanError:
        # It ended meanwhile, or this host lets us freeze nothing: each file is copied as one, then.
        running = False
    try:
        yield
    finally:
        if running:
            with suppress(NotFound, FailedPrecondition):
                await shielded(20, tasks.resume(key))


async def _clone(box: Sandbox, mounts: Sequence[RawMount], others: Sequence[RawMount]) -> None:
    request = {"call": "clone", "mounts": _mounts(mounts), "others": _mounts(others)}
    await ask(await box.client.raw.zygote(), UPPERS, request)


async def _parent(box: Sandbox) -> str:
    container = box.container
    view = box.client.raw.snapshots(container.snapshotter)
    return (await view.stat(container.snapshot_key)).parent


async def fork(
    box: Sandbox,
    *,
    name: str,
    timeout: float | None,  # noqa: ASYNC109 - the new sandbox's, not the call's
) -> Sandbox:
    """See Sandbox."""
    from sampan.client.creation import Root
    from sampan.sandbox.box import Sandbox

    container, raw = box.container, box.client.raw
    parent = await _parent(box)
    view = raw.snapshots(container.snapshotter)

    async def root(key: str) -> Root:
        mounts = await view.prepare(key, parent)
        async with frozen(box):
            await _clone(box, box.mounts, mounts)
        return Root(mounts, container.snapshotter, await _config(box))

    child = Sandbox(client=box.client, timeout=timeout)
    child.derive(box, root, name)
    return await child.start()


async def _config(box: Sandbox) -> ContainerConfig | None:
    """Return the config of the sandbox's image, if it has one."""
    from sampan.client.host import HOST
    from sampan.client.images import config_of, find

    if box.image == HOST:
        return None
    try:
        found = await config_of(box.client.raw, await find(box.client.raw, box.image))
    except NotFound:
        return None
    return found.config


def names(box: Sandbox) -> list[str]:
    """See Sandbox."""
    found: list[str] = json.loads(box.container.labels.get(LABEL_SNAPSHOTS) or "[]")
    return found


def _key(box: Sandbox, name: str) -> str:
    return f"{box.id}/{name}"


async def snapshot(box: Sandbox, name: str) -> None:
    """See Sandbox."""
    if not name or "/" in name or "\0" in name:
        raise InvalidArgument(f"snapshot name {name!r} is empty or has a slash")
    async with box.changing:
        if name in names(box):
            raise AlreadyExists(f"sandbox {box.name} has a snapshot {name!r} already: name another")
        await _relabel(box, [*names(box), name])
        try:
            view = box.client.raw.snapshots(box.container.snapshotter)
            labels = {_ROOT_LABEL: "true"}
            mounts = await view.prepare(_key(box, name), await _parent(box), labels=labels)
            async with frozen(box):
                await _clone(box, box.mounts, mounts)
        except BaseException:
            await shielded(30, _forget(box, name))
            raise


async def _relabel(box: Sandbox, found: list[str]) -> None:
    from sampan.client.containers import relabel

    box.container = await relabel(
        box.client.raw, box.container, {LABEL_SNAPSHOTS: json.dumps(found)}
    )


async def _forget(box: Sandbox, name: str) -> None:
    with suppress(NotFound):
        await box.client.raw.snapshots(box.container.snapshotter).remove(_key(box, name))
    await _relabel(box, [one for one in names(box) if one != name])


async def rollback(box: Sandbox, name: str) -> None:
    """See Sandbox."""
    async with box.changing:
        if name not in names(box):
            raise NotFound(f"sandbox {box.name} has no snapshot {name!r}: take one first")
        await shielded(120, _roll_back(box, name))


async def _roll_back(box: Sandbox, name: str) -> None:
    raw, container = box.client.raw, box.container
    view = raw.snapshots(container.snapshotter)
    parent, saved = await _parent(box), await view.mounts(_key(box, name))
    await box.end_task()
    await view.remove(container.snapshot_key)
    box.mounts[:] = await view.prepare(container.snapshot_key, parent)
    await _clone(box, saved, box.mounts)
    await box.run_task()


async def diff(box: Sandbox, name: str) -> list[Change]:
    """See Sandbox."""
    raw, container = box.client.raw, box.container
    view = raw.snapshots(container.snapshotter)
    scratch = ""
    try:
        if name:
            if name not in names(box):
                raise NotFound(f"sandbox {box.name} has no snapshot {name!r}: take one first")
            old = await view.mounts(_key(box, name))
        elif all(one.type == "overlay" for one in box.mounts):
            old = []  # the worker takes the upper folders off
        else:
            scratch = f"{box.id}/diff-{os.urandom(6).hex()}"
            old = await view.view(scratch, await _parent(box))
        request = {"call": "changes", "old": _mounts(old), "new": _mounts(box.mounts)}
        async with frozen(box):
            _, (fd,) = await ask(await raw.zygote(), UPPERS, request)
    finally:
        if scratch:
            with suppress(NotFound):
                await shielded(20, view.remove(scratch))
    try:
        return await to_thread(_changes, fd)
    finally:
        os.close(fd)


def _changes(fd: int) -> list[Change]:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return sorted(Change(*json.loads(line)) for line in file)


async def commit(
    box: Sandbox,
    image: str,
    *,
    command: Sequence[str] | None,
    env: Mapping[str, str],
    author: str,
    message: str,
) -> str:
    """See Sandbox."""
    from sampan.client.committing import Changes, commit_container

    changes = Changes(
        cmd=None if command is None else tuple(command),
        env=tuple(f"{key}={value}" for key, value in env.items()),
        author=author,
        message=message,
    )
    async with frozen(box):
        made = await commit_container(box.client.raw, box.container, image, changes)
    return made.name
