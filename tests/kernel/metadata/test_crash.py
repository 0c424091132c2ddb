"""A process killed anywhere leaves a store that opens, has what it promised, and can be cleaned."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.metadata.crash_stores import (
    bare_stores,
    blobs_on_disk,
    refuse,
    snapshots_on_disk,
)

from sampan import context
from sampan.metadata import Metadata
from sampan.model.digest import Digest
from sampan.testing import requires

WORKER = Path(__file__).with_name("crash_worker.py")
RANDOM_ROUNDS = 200 if os.environ.get("SAMPAN_SOAK") else 12
ROUNDS = 8
LONGEST_S = 3600.0 if os.environ.get("SAMPAN_SOAK") else 12.0
ATTEMPTS = 10 if os.environ.get("SAMPAN_SOAK") else 3


def begin(
    root: Path, seed: int, rounds: int = ROUNDS, *, kind: str = "folder", **env: str
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(root), str(seed), str(rounds), kind],
        env={**os.environ, "PYTHONPATH": str(WORKER.parents[3]), **env},
        stderr=subprocess.PIPE,
    )


def finish(child: subprocess.Popen[bytes]) -> int:
    _, errors = child.communicate(timeout=60)
    assert child.returncode in (0, -9), errors.decode()
    return child.returncode


def promised(root: Path) -> tuple[dict[tuple[str, str], str], set[tuple[str, str]]]:
    """Read what must exist: images with digests, and containers."""
    images: dict[tuple[str, str], str] = {}
    containers: set[tuple[str, str]] = set()
    for path in root.glob("acks-*"):
        for line in path.read_text().splitlines():
            match line.split():
                case ["+image", where, name, digest]:
                    images[where, name] = digest
                case ["-image", where, name]:
                    images.pop((where, name), None)
                case ["+container", where, name, _]:
                    containers.add((where, name))
                case ["-container", where, name]:
                    containers.discard((where, name))
    return images, containers


async def check(root: Path, kind: str = "folder") -> None:
    """Open, look for everything promised, collect, and look for anything left over."""
    content, snapshots = bare_stores(root, kind)
    async with await Metadata.open(
        root, content=content, snapshotters={kind: snapshots}
    ) as metadata:
        await verify(root, metadata, content, kind)
        # The killed process cannot have ended its leases: they would expire in time.
        for where in await metadata.namespaces.list():
            with context.scope(where.name):
                for lease in await metadata.leases.list():
                    await metadata.leases.delete(lease.id)
        await metadata.collect()
        await verify(root, metadata, content, kind)
        rows = await metadata.db.view(
            lambda tx: (
                {row[0] for row in tx.execute("SELECT digest FROM content")},
                {row[0] for row in tx.execute("SELECT backend FROM snapshots")},
            )
        )
        assert blobs_on_disk(root, kind) == rows[0]
        assert {info.name async for info in snapshots.walk()} == rows[1]
        assert snapshots_on_disk(root, kind) == len(rows[1])
        assert list(refuse(root, kind)) == []
        assert os.listdir(root / "owners") == [metadata.owners.id]
        assert len(rows[0]) == 2 * await count(metadata)
    if kind != "folder":
        await content.close()
        await snapshots.close()


async def count(metadata: Metadata) -> int:
    def images(tx: object) -> int:
        return int(tx.execute("SELECT count(*) FROM images").fetchone()[0])  # type: ignore[attr-defined]

    return await metadata.db.view(images)


async def verify(root: Path, metadata: Metadata, content: Any, kind: str) -> None:
    images, containers = promised(root)
    for (where, name), digest in images.items():
        with context.scope(where):
            assert (await metadata.images.get(name)).target.digest == digest
            info = await metadata.content.info(Digest(digest))
            for key, value in info.labels.items():
                if "ref.content" in key:
                    await metadata.content.info(Digest(value))
                    assert content.size_of(Digest(value)) is not None
    for where, name in containers:
        with context.scope(where):
            container = await metadata.containers.get(name)
            await metadata.snapshotter(kind).mounts(container.snapshot_key)


def hooks(root: Path, kind: str) -> Mapping[str, int]:
    """Return how often an undisturbed worker passes each trace point."""
    log = root / "trace"
    finish(begin(root, 1, kind=kind, SAMPAN_TRACE_LOG=str(log)))
    names = log.read_text().splitlines()
    return {name: names.count(name) for name in names}


@pytest.mark.parametrize("kind", ["folder", pytest.param("overlayfs", marks=requires("root"))])
async def test_killed_at_every_trace_point(tmp_path: Path, kind: str) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201
    choose = random.Random(seed)
    reference = tmp_path / "reference"
    reference.mkdir()
    found = hooks(reference, kind)
    await check(reference, kind)
    assert {"metadata.commit", "content.guarded", "content.published"} <= set(found)
    todo = [(name, attempt) for attempt in range(ATTEMPTS) for name in sorted(found)]
    until = time.monotonic() + LONGEST_S
    for name, attempt in todo:
        if attempt and time.monotonic() > until:
            break  # each once at least
        root = tmp_path / f"{name}-{attempt}"
        root.mkdir()
        point = f"{name}:{choose.randint(1, found[name])}"
        assert finish(begin(root, 1, kind=kind, SAMPAN_TRACE_KILL=point)) == -9, point
        await check(root, kind)


async def test_killed_at_random(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201
    choose = random.Random(seed)
    for index in range(RANDOM_ROUNDS):
        root = tmp_path / str(index % 7)
        root.mkdir(exist_ok=True)
        child = begin(root, 100 + index, 1000)
        pidfd = os.pidfd_open(child.pid)
        try:
            # Any moment will do: from before the database is there to the middle of the work.
            select.select([pidfd], [], [], choose.uniform(0.05, 0.6))
        finally:
            os.close(pidfd)
        child.kill()
        assert finish(child) == -9
        await check(root)


async def test_two_processes_on_one_root(tmp_path: Path) -> None:
    children = [begin(tmp_path, seed, 25) for seed in (1, 2, 3)]
    assert [finish(child) for child in children] == [0, 0, 0]
    await check(tmp_path)
