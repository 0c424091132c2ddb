"""What is garbage: marking from the roots, in one state of the database.

    roots   images not expired, containers, sandboxes, leases not expired, ingests not expired,
            content and snapshots labelled containerd.io/gc.root
    edges   image      → its target
            container  → its snapshot
            snapshot   → its parent
            lease      → its resources
            ingest     → the content it expects
            labels of any of these, and of content:
              containerd.io/gc.ref.content[.<any>|/<any>]             = digest
              containerd.io/gc.ref.snapshot.<snapshotter>[/<any>]     = key
              containerd.io/gc.ref.image[.<any>|/<any>]               = name
            and backwards, "keep me while that lives":
              containerd.io/gc.bref.{content,image,container,snapshot.<snapshotter>}[.<any>]
            and, of content and images, while the snapshot was used lately (`conditions`):
              containerd.io/gc.cond.snapshot.<snapshotter>[/<any>]
    flat    a lease labelled containerd.io/gc.flat keeps its resources alone: their labels are not
            followed, though a snapshot's parents and an image's target are kept
    expire  containerd.io/gc.expire, RFC 3339, on leases and images; unreadable times never come

A collection that nobody asked for also spares snapshots that are being worked on: active ones and
views, made so lately that whoever made them may not have said yet what they are for.

All edges stay within a namespace. What remains unmarked of content, snapshots, ingests, expired
images and expired leases is garbage. Source: containerd docs/garbage-collection.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.metadata import labels
from sampan.metadata.conditions import Condition, conditions_of, time_us, used_at_us
from sampan.metadata.db import Tx

__all__ = ["Garbage", "Node", "find_garbage"]

Node = tuple[str, str, str]
"""Namespace, kind, name; a snapshot's kind is `snapshot/<snapshotter>`."""

_GC: Final = "containerd.io/gc."
_ROOT: Final = "containerd.io/gc.root"
_EXPIRE: Final = "containerd.io/gc.expire"
_FLAT: Final = "containerd.io/gc.flat"
_REF: Final = "containerd.io/gc.ref."
_BREF: Final = "containerd.io/gc.bref."


@dataclass(slots=True)
class Garbage:
    """What no root reaches, by namespace and name."""

    content: list[tuple[str, str]] = field(default_factory=list)
    snapshots: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Namespace, snapshotter, key, name in the bare store."""
    images: list[tuple[str, str]] = field(default_factory=list)
    leases: list[tuple[str, str]] = field(default_factory=list)
    ingests: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.snapshots or self.images or self.leases or self.ingests)


@dataclass(slots=True)
class _Graph:
    roots: list[Node] = field(default_factory=list)
    flat_roots: list[Node] = field(default_factory=list)
    conditions: list[tuple[Node, Condition]] = field(default_factory=list)
    used_us: dict[Node, int] = field(default_factory=dict)
    """When snapshots say they were used."""
    edges: defaultdict[Node, list[Node]] = field(default_factory=lambda: defaultdict(list))
    structural: defaultdict[Node, list[Node]] = field(default_factory=lambda: defaultdict(list))
    """Edges that are no labels; flat references follow these alone."""

    def add_labels(self, node: Node, found: Mapping[str, str]) -> None:
        for key, value in found.items():
            if key.startswith(_REF):
                for other in _targets(node[0], key[len(_REF) :], value):
                    self.edges[node].append(other)
            elif key.startswith(_BREF):
                for other in _targets(node[0], key[len(_BREF) :], value):
                    self.edges[other].append(node)

    def add_conditions(self, node: Node, found: Mapping[str, str]) -> None:
        self.conditions += [(node, one) for one in conditions_of(found)]

    def weigh(self, now_us: int) -> None:
        """Turn conditions that hold into edges; after all labels were added."""
        for node, one in self.conditions:
            other = (node[0], f"snapshot/{one.snapshotter}", one.key)
            used = self.used_us.get(other)
            if used is not None and one.holds(used, now_us):
                self.edges[node].append(other)

    def reached(self) -> set[Node]:
        """Return all nodes that the roots keep."""
        full = _walk(self.roots, (self.structural, self.edges))
        return full | _walk(self.flat_roots, (self.structural,))


def find_garbage(tx: Tx, now_us: int, grace_us: int = 0) -> Garbage:
    """Mark from the roots and return what is not marked; reads only.

    Args:
      tx: Where.
      now_us: What time it is, in microseconds since the epoch.
      grace_us: Snapshots that are not committed and not older than this are roots.
    """
    graph, garbage = _Graph(), Garbage()
    image_rows = _images(tx, graph, now_us)
    _holders(tx, graph)
    garbage.leases = _leases(tx, graph, now_us)
    content_rows = _content(tx, graph)
    snapshot_rows = _snapshots(tx, graph, now_us - grace_us)
    ingest_rows = _ingests(tx, graph, now_us)
    graph.weigh(now_us)
    marked = graph.reached()
    garbage.images = [row for row in image_rows if (row[0], "image", row[1]) not in marked]
    garbage.content = [row for row in content_rows if (row[0], "content", row[1]) not in marked]
    garbage.snapshots = [
        row for row in snapshot_rows if (row[0], f"snapshot/{row[1]}", row[2]) not in marked
    ]
    garbage.ingests = [
        (where, ref) for where, ref in ingest_rows if (where, "ingest", ref) not in marked
    ]
    return garbage


def _images(tx: Tx, graph: _Graph, now_us: int) -> list[tuple[str, str]]:
    """Add images; return the expired, which live on only if something keeps them."""
    expired = []
    for where, name, digest, text in tx.execute(
        "SELECT namespace, name, digest, labels FROM images"
    ):
        node = (where, "image", name)
        found = _gc_labels(text)
        graph.structural[node].append((where, "content", digest))
        graph.add_labels(node, found)
        graph.add_conditions(node, found)
        if _is_expired(found, now_us):
            expired.append((where, name))
        else:
            graph.roots.append(node)
    return expired


def _holders(tx: Tx, graph: _Graph) -> None:
    for where, name, snapshotter, key, text in tx.execute(
        "SELECT namespace, id, snapshotter, snapshot, labels FROM containers"
    ):
        node = (where, "container", name)
        graph.roots.append(node)
        if key:
            graph.structural[node].append((where, f"snapshot/{snapshotter}", key))
        graph.add_labels(node, _gc_labels(text))
    for where, name, text in tx.execute("SELECT namespace, id, labels FROM sandboxes"):
        node = (where, "sandbox", name)
        graph.roots.append(node)
        graph.add_labels(node, _gc_labels(text))


def _leases(tx: Tx, graph: _Graph, now_us: int) -> list[tuple[str, str]]:
    """Add leases and what they keep; return the expired."""
    expired, flat = set(), set()
    for where, name, text in tx.execute("SELECT namespace, id, labels FROM leases"):
        found = _gc_labels(text)
        if _is_expired(found, now_us):
            expired.add((where, name))
            continue
        node = (where, "lease", name)
        graph.roots.append(node)
        graph.add_labels(node, found)
        if _FLAT in found:
            flat.add((where, name))
    kinds = {"content": "content", "images": "image", "ingests": "ingest"}
    for where, lease, kind, name in tx.execute(
        "SELECT namespace, lease, type, id FROM lease_resources"
    ):
        if (where, lease) in expired:
            continue
        node = (where, kinds.get(kind) or f"snapshot/{kind.partition('/')[2]}", name)
        (graph.flat_roots if (where, lease) in flat else graph.roots).append(node)
    return sorted(expired)


def _content(tx: Tx, graph: _Graph) -> list[tuple[str, str]]:
    rows = []
    for where, digest, text in tx.execute("SELECT namespace, digest, labels FROM content"):
        rows.append((where, digest))
        found = _gc_labels(text)
        if found:
            node = (where, "content", digest)
            graph.add_labels(node, found)
            graph.add_conditions(node, found)
            if _ROOT in found:
                graph.roots.append(node)
    return rows


def _ingests(tx: Tx, graph: _Graph, now_us: int) -> list[tuple[str, str]]:
    """Add ingests; return the expired."""
    expired = []
    for where, ref, expected, expire_us in tx.execute(
        "SELECT namespace, ref, expected, expire_us FROM ingests"
    ):
        node = (where, "ingest", ref)
        if expected:
            graph.structural[node].append((where, "content", expected))
        if expire_us > now_us:
            graph.roots.append(node)
        else:
            expired.append((where, ref))
    return expired


def _snapshots(tx: Tx, graph: _Graph, young_us: int) -> list[tuple[str, str, str, str]]:
    rows = []
    for where, snapshotter, key, parent, backend, text, fresh in tx.execute(
        "SELECT namespace, snapshotter, key, parent, backend, labels,"
        " kind <> 'committed' AND created_us > ? FROM snapshots",
        (young_us,),
    ):
        rows.append((where, snapshotter, key, backend))
        kind = f"snapshot/{snapshotter}"
        node = (where, kind, key)
        if parent:
            graph.structural[node].append((where, kind, parent))
        found = _gc_labels(text)
        graph.add_labels(node, found)
        used = used_at_us(found)
        if used is not None:
            graph.used_us[node] = used
        if fresh or _ROOT in found:
            graph.roots.append(node)
    return rows


def _walk(roots: Iterable[Node], maps: tuple[Mapping[Node, list[Node]], ...]) -> set[Node]:
    marked: set[Node] = set()
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node in marked:
            continue
        marked.add(node)
        for edges in maps:
            todo.extend(edges.get(node, ()))
    return marked


def _targets(where: str, kind: str, value: str) -> Iterator[Node]:
    """Read the end of a label's key, such as `content.config` or `snapshot.overlayfs/x`."""
    word = kind.replace("/", ".").partition(".")[0]
    if word in ("content", "image", "container"):
        yield where, word, value
    elif word == "snapshot" and kind.startswith("snapshot."):
        # A snapshotter's name may hold a dot: only "/" ends it.
        yield where, f"snapshot/{kind[len('snapshot.') :].partition('/')[0]}", value


def _gc_labels(text: str) -> dict[str, str]:
    """Decode labels only if there is one for us: most objects have none."""
    return labels.load(text) if _GC in text else {}


def _is_expired(found: Mapping[str, str], now_us: int) -> bool:
    when = time_us(found.get(_EXPIRE))
    return when is not None and when <= now_us
