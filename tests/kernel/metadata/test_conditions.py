"""The mark on dense random graphs, against rules written a second time and the slow way."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sampan.metadata
from sampan.metadata import labels as encoded
from sampan.metadata.conditions import Condition, conditions_of, time_us, used_at_us
from sampan.metadata.gc import find_garbage

EXAMPLES = 5000 if os.environ.get("SAMPAN_SOAK") else 200
NOW_US = 1_800_000_000_000_000
RECENT, OLD, FUTURE = "2027-01-15T07:50:00Z", "2027-01-15T02:00:00Z", "2027-01-16T00:00:00+00:00"
GC = "containerd.io/gc."
SCHEMA = Path(sampan.metadata.__file__).with_name("schema.sql").read_text()

name = st.sampled_from(["a", "b", "c", "d"])
kind = st.sampled_from(["content", "image", "container", "snapshot.o", "snapshot.n.v1"])
suffix = st.sampled_from(["", ".x", "/x"])
condition = st.builds(
    lambda shape, key: f"{shape}|{key}",
    st.sampled_from(["usedat<1h", "usedat>1h", "other<1h,usedat<1h", "usedat=1h", "usedat<soon"]),
    name,
)
label = st.one_of(
    st.tuples(st.builds("ref.{}{}".format, kind, suffix), name),
    st.tuples(st.builds("bref.{}{}".format, kind, suffix), name),
    st.tuples(st.sampled_from(["cond.snapshot.o", "cond.snapshot.n.v1/y"]), condition),
)
mark: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.just({"root": "x"}),
    st.sampled_from([{"expire": OLD}, {"expire": FUTURE}, {"expire": "never"}]),
    st.sampled_from([{"cond.value-usedat": RECENT}, {"cond.value-usedat": OLD}]),
)
labels = st.builds(
    lambda pairs, extra: {GC + key: value for key, value in [*pairs, *extra.items()]},
    st.lists(label, max_size=3),
    mark,
)
resource = st.sampled_from(["content", "images", "snapshots/o", "ingests"])
things = st.fixed_dictionaries(
    {
        "content": st.dictionaries(name, labels),
        "image": st.dictionaries(name, st.tuples(name, labels)),
        "container": st.dictionaries(name, st.tuples(name, labels), max_size=2),
        "snapshot/o": st.dictionaries(name, st.tuples(st.sampled_from(["", "a", "b"]), labels)),
        "snapshot/n.v1": st.dictionaries(name, st.tuples(st.just(""), labels)),
        "ingest": st.dictionaries(name, st.tuples(name, st.booleans()), max_size=2),
        "lease": st.dictionaries(
            name,
            st.tuples(
                st.lists(
                    st.tuples(
                        st.sampled_from(["content", "images", "snapshots/o", "ingests"]), name
                    )
                ),
                st.sampled_from([{}, {GC + "flat": "1"}, {GC + "expire": OLD}]),
            ),
            max_size=2,
        ),
    }
)
World = dict[str, dict[str, Any]]


def write(db: sqlite3.Connection, where: str, world: World) -> None:
    def put(table: str, columns: str, *values: object) -> None:
        marks = ", ".join("?" * (len(values) + 1))
        statement = f"INSERT INTO {table} (namespace, {columns}) VALUES ({marks})"  # noqa: S608
        db.execute(statement, (where, *values))

    for key, found in world["content"].items():
        columns = "digest, size, labels, created_us, updated_us"
        put("content", columns, key, 1, encoded.dump(found), 1, 1)
    for key, (target, found) in world["image"].items():
        columns = "name, digest, target, labels, created_us, updated_us"
        put("images", columns, key, target, "{}", encoded.dump(found), 1, 1)
    for key, (snapshot, found) in world["container"].items():
        columns = (
            "id, image, runtime, snapshotter, snapshot, sandbox, labels, extensions, created_us,"
            " updated_us, spec_type, spec"
        )
        row = (key, "", "r", "o", snapshot, "", encoded.dump(found), "{}", 1, 1, "", b"")
        put("containers", columns, *row)
    for snapshotter in ("o", "n.v1"):
        for key, (parent, found) in world[f"snapshot/{snapshotter}"].items():
            columns = "snapshotter, key, parent, backend, kind, labels, created_us, updated_us"
            backend, text = f"{where}{key}", encoded.dump(found)
            put("snapshots", columns, snapshotter, key, parent, backend, "committed", text, 1, 1)
    for key, (expected, alive) in world["ingest"].items():
        put("ingests", "ref, expected, expire_us", key, expected, NOW_US + (1 if alive else -1))
    for key, (held, found) in world["lease"].items():
        put("leases", "id, labels, created_us", key, encoded.dump(found), 1)
        for kind_, one in set(held):
            put("lease_resources", "lease, type, id", key, kind_, one)


def labels_in(world: World, kind_: str, key: str) -> dict[str, str]:
    found = world.get(kind_, {}).get(key)
    if found is None or kind_ == "ingest":
        return {}
    result: dict[str, str] = found if kind_ == "content" else found[1]
    return result


def points(text: str, value: str, prefix: str) -> tuple[str, str] | None:
    """Read `<prefix>.<kind>[.any|/any]` as the documentation has it."""
    match = re.fullmatch(rf"{re.escape(GC + prefix)}\.(content|image|container)([./].*)?", text)
    if match:
        return match[1], value
    match = re.fullmatch(rf"{re.escape(GC + prefix)}\.snapshot\.([^/]+)(/.*)?", text)
    return (f"snapshot/{match[1]}", value) if match else None


def useful(world: World, value: str, kind_: str) -> bool:
    texts, key = value.split("|", 1)
    when = labels_in(world, kind_, key).get(GC + "cond.value-usedat")
    if "usedat<1h" in texts.split(","):
        return when == RECENT
    return "usedat>1h" in texts.split(",") and when == OLD


def keeps(world: World, one: tuple[str, str], flat: bool) -> set[tuple[str, str]]:
    """Return what a kept thing keeps."""
    kind_, key = one
    thing: Any = world.get(kind_, {}).get(key)
    if thing is None:
        return set()
    kept: set[tuple[str, str]] = set()
    if kind_ == "image":
        kept.add(("content", thing[0]))
    if kind_ == "container":
        kept.add(("snapshot/o", thing[0]))
    if kind_ == "ingest":
        kept.add(("content", thing[0]))
    if kind_.startswith("snapshot/") and thing[0]:
        kept.add((kind_, thing[0]))
    if flat:
        return kept
    for text, value in labels_in(world, kind_, key).items():
        target = points(text, value, "ref")
        if target:
            kept.add(target)
        match = re.fullmatch(rf"{re.escape(GC)}cond\.snapshot\.([^/]+)(/.*)?", text)
        if match and kind_ in ("content", "image") and useful(world, value, f"snapshot/{match[1]}"):
            kept.add((f"snapshot/{match[1]}", value.split("|", 1)[1]))
    return kept


def model(world: World) -> set[tuple[str, str]]:
    """Return everything that is kept, by going round until nothing is added."""
    expired = {key for key, (_, found) in world["image"].items() if found.get(GC + "expire") == OLD}
    kept = {("image", key) for key in world["image"] if key not in expired}
    kept |= {("container", key) for key in world["container"]}
    kept |= {("ingest", key) for key, (_, alive) in world["ingest"].items() if alive}
    for kind_ in ("content", "snapshot/o", "snapshot/n.v1"):
        for key in world[kind_]:
            if GC + "root" in labels_in(world, kind_, key):
                kept.add((kind_, key))
    flat: set[tuple[str, str]] = set()
    for held, found in world["lease"].values():
        if GC + "expire" in found:
            continue
        kinds = {"images": "image", "ingests": "ingest", "snapshots/o": "snapshot/o"}
        for kind_, key in held:
            (flat if GC + "flat" in found else kept).add((kinds.get(kind_, kind_), key))
    everything = [(kind_, key) for kind_ in world for key in world[kind_] if kind_ != "lease"]
    while True:
        before = len(kept) + len(flat)
        for one in list(kept):
            kept |= keeps(world, one, flat=False)
        for one in list(flat):
            flat |= keeps(world, one, flat=True)
        for one in everything:
            for text, value in labels_in(world, *one).items():
                if points(text, value, "bref") in kept:
                    kept.add(one)
        if len(kept) + len(flat) == before:
            return kept | flat


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(things, things)
def test_the_mark_agrees_with_the_slow_rules(first: World, second: World) -> None:
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    for where, world in (("one", first), ("two", second)):
        write(db, where, world)
    found = find_garbage(db, NOW_US)
    db.close()
    for where, world in (("one", first), ("two", second)):
        kept = model(world)

        def gone(kind_: str, world: World = world, kept: set[tuple[str, str]] = kept) -> set[str]:
            return {key for key in world[kind_] if (kind_, key) not in kept}

        assert {key for place, key in found.content if place == where} == gone("content")
        assert {key for place, key in found.images if place == where} == gone("image")
        assert {ref for place, ref in found.ingests if place == where} == gone("ingest")
        snapshots = {(kind_, key) for place, kind_, key, _ in found.snapshots if place == where}
        assert snapshots == {(one, key) for one in ("o", "n.v1") for key in gone(f"snapshot/{one}")}
        assert {key for place, key in found.leases if place == where} == {
            key for key, (_, labels_) in world["lease"].items() if GC + "expire" in labels_
        }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("usedat<24h|k", [("k", True, 86_400_000_000)]),
        ("usedat>1s|a|b", [("a|b", False, 1_000_000)]),
        ("usedat<1s,usedat>2s|k", [("k", True, 1_000_000), ("k", False, 2_000_000)]),
        ("usedat<=1s|k", []),
        ("usedat==1s|k", []),
        ("usedat<1s", []),
        ("usedat<x|k", []),
        ("|k", []),
    ],
)
def test_conditions(value: str, expected: list[tuple[str, bool, int]]) -> None:
    found = conditions_of({f"{GC}cond.snapshot.over.lay/any": value, "other": value})
    assert list(found) == [Condition("over.lay", *one) for one in expected]


def test_times() -> None:
    assert used_at_us({f"{GC}cond.value-usedat": "1970-01-01T00:00:01.5Z"}) == 1_500_000
    assert time_us("1970-01-01T01:00:00+01:00") == 0
    assert time_us("yesterday") is None
    assert time_us(None) is None
