"""What a root holds and what it costs: the data behind `system info`, `system df`, `system prune`.

    info      who we are and what works: versions, folders, kernel, counts, plugins that failed
    usage     bytes of images, containers and content of a namespace, and what nobody would miss
    prune     containers that ended, images nobody uses; then a collection; what it freed

Sizes of images are those of their blobs; a blob that two images share counts for both, and once in
the sum. What can be freed is what pruning would: it keeps what runs, and what is labelled to stay.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sampan import __version__, context
from sampan.concurrency import to_thread
from sampan.errors import FailedPrecondition, NotFound, SampanError
from sampan.model.digest import Digest
from sampan.runtime import Status

if TYPE_CHECKING:
    from sampan.engine.engine import Engine
    from sampan.metadata import Container, Image

__all__ = ["Info", "Kind", "Pruned", "Usage", "info", "prune", "usage"]

_PINNED: Final = "io.cri-containerd.pinned"
_REF: Final = "containerd.io/gc.ref.content"


@dataclass(frozen=True, slots=True)
class Info:
    """Of the whole root."""

    version: str
    uuid: str
    root: str
    state: str
    kernel: str
    architecture: str
    cpus: int
    memory_bytes: int
    cgroups: str
    """v1, hybrid or v2."""
    runtime: str
    snapshotter: str
    namespaces: int
    containers: int
    """Of all namespaces, as are the next two."""
    running: int
    images: int
    failed: tuple[tuple[str, str], ...]
    """Plugins that do not work, and why."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Objects of one kind."""

    count: int = 0
    active: int = 0
    """In use by what runs or exists."""
    size: int = 0
    """Bytes."""
    reclaimable: int = 0
    """Bytes that pruning would free."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one namespace."""

    images: Kind = field(default_factory=Kind)
    containers: Kind = field(default_factory=Kind)
    """Their writable layers."""
    snapshots: Kind = field(default_factory=Kind)
    """All, those of containers and images included."""
    content: Kind = field(default_factory=Kind)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    bytes: int = 0
    """Of content and snapshots."""


async def info(engine: Engine) -> Info:
    """Describe the root and this host."""
    settings = engine.settings
    counts = await engine.metadata.db.view(
        lambda tx: [
            int(tx.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
            for table in ("namespaces", "containers", "images")
        ]
    )
    return Info(
        version=__version__,
        uuid=await engine.identity(),
        root=str(settings.root),
        state=str(settings.state),
        kernel=platform.release(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroups=await to_thread(_cgroups),
        runtime=settings.runtime,
        snapshotter=settings.snapshotter,
        namespaces=counts[0],
        containers=counts[1],
        running=await _running(engine),
        images=counts[2],
        failed=tuple(
            (one.registration.uri, one.init_err) for one in engine.graph.instances if not one.ok
        ),
    )


def _cgroups() -> str:
    from sampan.cgroups import detect

    return detect().mode


async def _running(engine: Engine) -> int:
    total = 0
    for namespace in await engine.metadata.namespaces.list():
        with context.scope(namespace.name):
            states = await engine.tasks.list()
        total += sum(one.status in (Status.RUNNING, Status.PAUSED) for one in states)
    return total


async def usage(engine: Engine) -> Usage:
    """Count what the namespace of the request holds. Walks files of writable layers."""
    sizes = {one.digest: one.size async for one in engine.metadata.content.walk()}
    edges = {
        one.digest: [Digest(v) for k, v in one.labels.items() if k.startswith(_REF)]
        async for one in engine.metadata.content.walk()
    }
    images = await engine.metadata.images.list()
    containers = await engine.metadata.containers.list()
    used = {one.image for one in containers}
    kept = _reach(edges, [one.target.digest for one in images if _stays(one, used)])
    mine = _reach(edges, [one.target.digest for one in images])
    return Usage(
        images=Kind(
            len(images),
            sum(one.name in used for one in images),
            _sum(sizes, mine),
            _sum(sizes, mine - kept),
        ),
        containers=await _layers(engine, containers),
        snapshots=await _snapshots(engine),
        content=Kind(
            len(sizes), len(mine), sum(sizes.values()), sum(sizes.values()) - _sum(sizes, kept)
        ),
    )


def _stays(image: Image, used: Iterable[str]) -> bool:
    return image.name in used or _PINNED in image.labels


def _reach(edges: dict[Digest, list[Digest]], roots: Iterable[Digest]) -> set[Digest]:
    found: set[Digest] = set()
    todo = list(roots)
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += edges.get(one, [])
    return found


def _sum(sizes: dict[Digest, int], wanted: Iterable[Digest]) -> int:
    return sum(sizes.get(one, 0) for one in wanted)


async def _layers(engine: Engine, containers: Iterable[Container]) -> Kind:
    count = active = size = free = 0
    for one in containers:
        count += 1
        alive = await _is_alive(engine, one.id)
        active += alive
        view = engine.metadata.snapshotters.get(one.snapshotter)
        if view is None or not one.snapshot_key:
            continue
        try:
            layer = (await view.usage(one.snapshot_key)).size
        except SampanError:
            continue
        size += layer
        free += 0 if alive else layer
    return Kind(count, active, size, free)


async def _snapshots(engine: Engine) -> Kind:
    count = size = 0
    for view in engine.metadata.snapshotters.values():
        async for one in view.walk():
            count += 1
            try:
                size += (await view.usage(one.name)).size
            except NotFound:
                count -= 1
    return Kind(count, count, size, 0)


async def _is_alive(engine: Engine, container: str) -> bool:
    try:
        state = await engine.tasks.state(container)
    except NotFound:
        return False
    return state.status is not Status.STOPPED


async def prune(engine: Engine, *, containers: bool = True, images: bool = True) -> Pruned:
    """Remove what does not run and what nobody uses, in the namespace of the request; collect.

    Args:
      engine: Of the root.
      containers: Remove those whose task has ended or was never there.
      images: Remove those that no container names, unless they are pinned.
    """
    before = await _total(engine)
    gone_containers = await _prune_containers(engine) if containers else []
    gone_images = []
    if images:
        used = {one.image for one in await engine.metadata.containers.list()}
        for image in await engine.metadata.images.list():
            if not _stays(image, used):
                await engine.metadata.images.delete(image.name, target=image.target.digest)
                gone_images.append(image.name)
    await engine.metadata.collect()
    freed = before - await _total(engine)
    return Pruned(tuple(gone_containers), tuple(gone_images), max(0, freed))


async def _prune_containers(engine: Engine) -> list[str]:
    gone = []
    for one in await engine.metadata.containers.list():
        if await _is_alive(engine, one.id):
            continue
        try:
            await engine.tasks.delete(one.id)
        except NotFound:
            pass
        except FailedPrecondition:
            continue  # it has been started meanwhile
        try:
            await engine.metadata.containers.delete(one.id, snapshots=engine.metadata.snapshotters)
        except NotFound:
            continue
        gone.append(one.id)
    return gone


async def _total(engine: Engine) -> int:
    content = sum([one.size async for one in engine.metadata.content.walk()])
    return content + (await _snapshots(engine)).size
