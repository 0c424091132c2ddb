"""Works on a root until it is done or killed: `crash_worker.py ROOT SEED ROUNDS STORES`.

STORES is `folder`, the plain stores of this folder, or `overlayfs`, with storage's content store.

Appends to ROOT/acks-SEED what the store has promised: `+image NAME DIGEST`, `+container ID KEY`
after the call returned, `-image NAME`, `-container ID` before it is asked to delete.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from tests.kernel.metadata.crash_stores import bare_stores

from sampan import context
from sampan.metadata import Container, Image, Metadata, Opaque, Runtime
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest


async def work(root: Path, seed: int, rounds: int, kind: str) -> None:
    choose = random.Random(seed)
    acks = os.open(root / f"acks-{seed}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def ack(*words: str) -> None:
        os.write(acks, (" ".join(words) + "\n").encode())

    content, snapshots = bare_stores(root, kind)
    stores = await Metadata.open(root, content=content, snapshotters={kind: snapshots})
    async with stores as metadata:
        for index in range(rounds):
            name = f"s{seed}-{index}"
            with context.scope("one" if index % 3 else "two"):
                await pull(metadata, name, choose, kind)
                image = await metadata.images.get(name)
                ack("+image", context.namespace(), name, image.target.digest)
                await start(metadata, name, kind)
                ack("+container", context.namespace(), name, name)
            if index >= 3 and choose.random() < 0.7:
                await forget(metadata, f"s{seed}-{index - 3}", index - 3, ack, choose)
            if choose.random() < 0.4:
                await metadata.collect()


async def pull(metadata: Metadata, name: str, choose: random.Random, kind: str) -> None:
    lease = await metadata.leases.create(f"pull-{name}", expire_s=3600)
    view = metadata.snapshotter(kind)
    with context.scope(lease=lease.id):
        digests: list[Digest] = []
        for part in ("layer", "manifest"):
            async with await metadata.content.writer(f"{name}-{part}") as writer:
                await writer.write(f"{name} {part}".encode())
                labels = {
                    f"containerd.io/gc.ref.content.{n}": str(d) for n, d in enumerate(digests)
                }
                labels[f"containerd.io/gc.ref.snapshot.{kind}"] = f"chain-{name}"
                digests.append((await writer.commit(labels=labels)).digest)
        await view.prepare(f"extract-{name}")
        await view.commit(f"chain-{name}", f"extract-{name}")
        target = Descriptor(media_type="m", digest=digests[-1], size=1)
        await metadata.images.create(Image(name=name, target=target))
    await metadata.leases.delete(lease.id, sync=choose.random() < 0.2)


async def start(metadata: Metadata, name: str, kind: str) -> None:
    lease = await metadata.leases.create(f"run-{name}", expire_s=3600)
    with context.scope(lease=lease.id):
        await metadata.snapshotter(kind).prepare(name, f"chain-{name}")
        await metadata.containers.create(
            Container(
                id=name,
                runtime=Runtime("r"),
                spec=Opaque("t", b"{}"),
                snapshotter=kind,
                snapshot_key=name,
            )
        )
    await metadata.leases.delete(lease.id)


async def forget(
    metadata: Metadata,
    name: str,
    index: int,
    ack: Callable[..., None],
    choose: random.Random,
) -> None:
    with context.scope("one" if index % 3 else "two"):
        ack("-container", context.namespace(), name)
        snapshots = metadata.snapshotters if choose.random() < 0.5 else None
        await metadata.containers.delete(name, snapshots=snapshots)
        ack("-image", context.namespace(), name)
        await metadata.images.delete(name, sync=choose.random() < 0.5)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
