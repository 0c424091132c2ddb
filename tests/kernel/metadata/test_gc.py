"""Collections against a plain model: after each, exactly what the model reaches is there."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kernel.metadata.folder_stores import FolderContent, FolderSnapshots

from sampan import context
from sampan.errors import AlreadyExists, SampanError
from sampan.metadata import Container, Image, Lease, Metadata, Opaque, Resource, Runtime
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest, of_bytes

EXAMPLES = 3000 if os.environ.get("SAMPAN_SOAK") else 100
SPACES = ("one", "two")
NAMES = tuple("abc")

space, name = st.sampled_from(SPACES), st.sampled_from(NAMES)
blob_refs = st.lists(
    st.tuples(st.sampled_from(["content", "snapshot", "image", "bref"]), name), max_size=2
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("blob"), space, name, blob_refs, st.sampled_from(["", "root", "lease"])),
        st.tuples(st.just("unblob"), space, name),
        st.tuples(st.just("image"), space, name, name),
        st.tuples(st.just("unimage"), space, name),
        st.tuples(st.just("lease"), space, name, st.booleans()),
        st.tuples(
            st.just("hold"), space, name, st.sampled_from(["content", "snapshots/folder"]), name
        ),
        st.tuples(st.just("unlease"), space, name),
        st.tuples(st.just("snapshot"), space, name, st.none() | name),
        st.tuples(st.just("unsnapshot"), space, name),
        st.tuples(st.just("container"), space, name, name),
        st.tuples(st.just("uncontainer"), space, name),
        st.tuples(st.just("collect")),
    ),
    min_size=25,
    max_size=60,
)


def digest_of(letter: str) -> Digest:
    return of_bytes(letter.encode())


@dataclass
class Model:
    """Sets of names and who keeps whom, by the rules as a user reads them."""

    blobs: dict[tuple[str, str], tuple[list[tuple[str, str]], bool]] = field(default_factory=dict)
    images: dict[tuple[str, str], str] = field(default_factory=dict)
    leases: dict[tuple[str, str], tuple[bool, set[tuple[str, str]]]] = field(default_factory=dict)
    snapshots: dict[tuple[str, str], str | None] = field(default_factory=dict)
    containers: dict[tuple[str, str], str] = field(default_factory=dict)

    def kept(self) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Grow the sets of kept blobs and snapshots until they grow no more."""
        blobs = {key for key, (_, root) in self.blobs.items() if root}
        blobs |= {(where, target) for (where, _), target in self.images.items()}
        snapshots = {(where, key) for (where, _), key in self.containers.items()}
        flat: set[tuple[str, str]] = set()
        for (where, _), (is_flat, held) in self.leases.items():
            for kind, one in held:
                if kind != "content":
                    snapshots.add((where, one))
                elif is_flat:
                    flat.add((where, one))
                else:
                    blobs.add((where, one))
        while True:
            size = len(blobs) + len(snapshots)
            for key in [key for key in blobs if key in self.blobs]:
                for kind, other in self.blobs[key][0]:
                    if kind == "content":
                        blobs.add((key[0], other))
                    elif kind == "snapshot":
                        snapshots.add((key[0], other))
                    elif kind == "image" and (key[0], other) in self.images:
                        blobs.add((key[0], self.images[key[0], other]))
            for key, (refs, _) in self.blobs.items():
                if any(kind == "bref" and (key[0], other) in blobs for kind, other in refs):
                    blobs.add(key)
            for where, one in list(snapshots):
                parent = self.snapshots.get((where, one))
                if parent is not None:
                    snapshots.add((where, parent))
            if len(blobs) + len(snapshots) == size:
                break
        return (blobs | flat) & set(self.blobs), snapshots & set(self.snapshots)

    def collect(self) -> None:
        blobs, snapshots = self.kept()
        self.blobs = {key: value for key, value in self.blobs.items() if key in blobs}
        self.snapshots = {key: value for key, value in self.snapshots.items() if key in snapshots}


def labels_of(refs: list[tuple[str, str]], root: bool) -> dict[str, str]:
    labels = {"containerd.io/gc.root": "now"} if root else {}
    for number, (kind, other) in enumerate(refs):
        if kind == "content":
            labels[f"containerd.io/gc.ref.content.l.{number}"] = digest_of(other)
        elif kind == "snapshot":
            labels[f"containerd.io/gc.ref.snapshot.folder/{number}"] = other
        elif kind == "image":
            labels[f"containerd.io/gc.ref.image.{number}"] = other
        else:
            labels[f"containerd.io/gc.bref.content.{number}"] = digest_of(other)
    return labels


class Pair:
    """The store and the model, driven alike; what the store refuses changes neither."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.model = Model()

    async def apply(self, operation: tuple[Any, ...]) -> None:
        verb, *rest = operation
        if verb == "collect":
            await self.metadata.collect()
            self.model.collect()
            return
        where, key, *more = rest
        with context.scope(where), suppress(SampanError):
            await getattr(self, verb)(where, key, *more)

    async def _write(self, key: str, labels: dict[str, str]) -> None:
        async with await self.metadata.content.writer(f"w-{key}", expected=digest_of(key)) as w:
            if not (await w.status()).offset:
                await w.write(key.encode())
            await w.commit(labels=labels)

    async def blob(self, where: str, key: str, refs: list[tuple[str, str]], why: str) -> None:
        lease = key if why == "lease" else ""
        try:
            with context.scope(lease=lease):
                await self._write(key, labels_of(refs, why == "root"))
        except AlreadyExists:
            if lease:
                # What a lease's request finds, it keeps, too.
                self.model.leases[where, key][1].add(("content", key))
            raise
        self.model.blobs[where, key] = (refs, why == "root")
        if lease:
            self.model.leases[where, key][1].add(("content", key))

    async def unblob(self, where: str, key: str) -> None:
        await self.metadata.content.delete(digest_of(key))
        del self.model.blobs[where, key]

    async def image(self, where: str, key: str, target: str) -> None:
        descriptor = Descriptor(media_type="m", digest=digest_of(target), size=1)
        await self.metadata.images.put(Image(name=key, target=descriptor))
        self.model.images[where, key] = target

    async def unimage(self, where: str, key: str) -> None:
        await self.metadata.images.delete(key)
        del self.model.images[where, key]

    async def lease(self, where: str, key: str, flat: bool) -> Lease:
        made = await self.metadata.leases.create(
            key, {"containerd.io/gc.flat": "1"} if flat else {}
        )
        self.model.leases[where, key] = (flat, set())
        return made

    async def hold(self, where: str, key: str, kind: str, other: str) -> None:
        resource = Resource(kind, digest_of(other) if kind == "content" else other)
        await self.metadata.leases.add_resource(key, resource)
        self.model.leases[where, key][1].add((kind, other))

    async def unlease(self, where: str, key: str) -> None:
        await self.metadata.leases.delete(key)
        del self.model.leases[where, key]

    async def snapshot(self, where: str, key: str, parent: str | None) -> None:
        view = self.metadata.snapshotter("folder")
        await view.prepare(f"x-{key}", parent or "")
        try:
            await view.commit(key, f"x-{key}")
        except SampanError:
            await view.remove(f"x-{key}")
            raise
        self.model.snapshots[where, key] = parent

    async def unsnapshot(self, where: str, key: str) -> None:
        await self.metadata.snapshotter("folder").remove(key)
        del self.model.snapshots[where, key]
        for (place, _), (_, held) in self.model.leases.items():
            if place == where:
                held.discard(("snapshots/folder", key))

    async def container(self, where: str, key: str, snapshot: str) -> None:
        await self.metadata.containers.create(
            Container(
                id=key,
                runtime=Runtime("r"),
                spec=Opaque("t", b"{}"),
                snapshotter="folder",
                snapshot_key=snapshot,
            )
        )
        self.model.containers[where, key] = snapshot

    async def uncontainer(self, where: str, key: str) -> None:
        await self.metadata.containers.delete(key)
        del self.model.containers[where, key]

    async def compare(self, content: FolderContent, folder: FolderSnapshots) -> None:
        for where in set(SPACES):
            with context.scope(where):
                blobs = {info.digest async for info in self.metadata.content.walk()}
                view = self.metadata.snapshotter("folder")
                snapshots = {info.name async for info in view.walk()}
            assert blobs == {digest_of(k) for w, k in self.model.blobs if w == where}
            assert snapshots == {k for w, k in self.model.snapshots if w == where}
        assert {info.digest async for info in content.walk()} == {
            digest_of(k) for _, k in self.model.blobs
        }
        assert len(folder.names()) == len(self.model.snapshots)


async def drive(sequence: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder_name:
        root = Path(folder_name)
        content, folder = FolderContent(root / "content"), FolderSnapshots(root / "folder")
        stores = await Metadata.open(root, content=content, snapshotters={"folder": folder})
        async with stores as metadata:
            pair = Pair(metadata)
            for operation in [*sequence, ("collect",)]:
                await pair.apply(operation)
                if operation[0] == "collect":
                    await pair.compare(content, folder)


def blob(key: str, *refs: tuple[str, str], root: bool = False) -> tuple[Any, ...]:
    return ("blob", "one", key, list(refs), "root" if root else "")


RULES: dict[str, list[tuple[Any, ...]]] = {
    "image keeps its target and what that refers to": [
        blob("b"),
        blob("a", ("content", "b")),
        ("image", "one", "i", "a"),
    ],
    "references end at the namespace": [blob("a", root=True), ("blob", "two", "a", [], "")],
    "back reference": [blob("a", root=True), blob("b", ("bref", "a")), blob("c", ("bref", "b"))],
    "image reference": [
        blob("b"),
        ("image", "one", "i", "b"),
        blob("a", ("image", "i"), root=True),
    ],
    "snapshot reference and parents": [
        ("snapshot", "one", "a", None),
        ("snapshot", "one", "b", "a"),
        ("snapshot", "one", "c", "b"),
        blob("x", ("snapshot", "b"), root=True),
    ],
    "container keeps its chain": [
        ("snapshot", "one", "a", None),
        ("snapshot", "one", "b", "a"),
        ("container", "one", "c", "b"),
    ],
    "flat lease follows no label": [
        blob("b"),
        blob("a", ("content", "b")),
        ("lease", "one", "l", True),
        ("hold", "one", "l", "content", "a"),
    ],
    "flat lease keeps parents": [
        ("snapshot", "one", "a", None),
        ("snapshot", "one", "b", "a"),
        ("lease", "one", "l", True),
        ("hold", "one", "l", "snapshots/folder", "b"),
    ],
    "plain lease follows labels": [
        blob("b"),
        blob("a", ("content", "b")),
        ("lease", "one", "l", False),
        ("hold", "one", "l", "content", "a"),
    ],
    "circles without root go": [blob("a", ("content", "b")), blob("b", ("content", "a"))],
}


@pytest.mark.parametrize("rule", RULES)
async def test_rule(rule: str) -> None:
    await drive(RULES[rule])


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(operations)
def test_random_operations_agree_with_the_model(sequence: list[tuple[Any, ...]]) -> None:
    asyncio.run(drive(sequence))
