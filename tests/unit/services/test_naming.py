"""Which records an ImageStore of a transfer makes."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.containerd.types.transfer import imagestore_pb2 as pb
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.services.transfer.naming import named, records

TARGET = Descriptor(media_type="m", digest=Digest("sha256:" + "1" * 64), size=3)
NAME = "io.containerd.image.name"
TAG = "org.opencontainers.image.ref.name"


def store(*references: pb.ImageReference, **fields: Any) -> pb.ImageStore:
    return pb.ImageStore(extra_references=references, **fields)


def prefix(name: str, **fields: bool) -> pb.ImageReference:
    return pb.ImageReference(name=name, is_prefix=True, **fields)


@pytest.mark.parametrize(
    ("annotations", "reference", "names"),
    [
        ({TAG: "1"}, prefix("a.b/c"), ["a.b/c:1"]),
        ({TAG: "a.b/c:1"}, prefix("a.b/c"), ["a.b/c:1"]),
        ({TAG: "a.b/other:1"}, prefix("a.b/c"), []),
        ({TAG: "a.b/cd:1"}, prefix("a.b/c"), []),
        ({NAME: "a.b/c:1", TAG: "2"}, prefix("a.b/c"), ["a.b/c:1"]),
        ({NAME: "x.y/z:1"}, prefix("a.b/c"), []),
        ({NAME: "x.y/z:1"}, prefix("a.b/c", allow_overwrite=True), ["x.y/z:1"]),
        ({NAME: "tag-alone"}, prefix("a.b/c"), []),
        ({}, prefix("a.b/c"), []),
        ({}, prefix("imp", add_digest=True), [f"imp@{TARGET.digest}"]),
        ({TAG: "1"}, prefix("imp", add_digest=True), ["imp:1", f"imp@{TARGET.digest}"]),
        ({TAG: "1"}, prefix("imp", add_digest=True, skip_named_digest=True), ["imp:1"]),
        ({TAG: "1"}, prefix(""), []),
        ({TAG: "1"}, pb.ImageReference(name="a.b/c"), []),
    ],
)
def test_names_of_an_image_in_an_archive(
    annotations: dict[str, str], reference: pb.ImageReference, names: list[str]
) -> None:
    assert [one.name for one in named(store(reference), TARGET, annotations)] == names


def test_records_asked_for_by_name() -> None:
    found = records(
        store(
            pb.ImageReference(name="extra:1"),
            prefix("never"),
            prefix("imp", add_digest=True),
            name="main:1",
            labels={"a": "b"},
        ),
        TARGET,
    )
    assert [one.name for one in found] == ["main:1", "extra:1", f"imp@{TARGET.digest}"]
    assert dict(found[0].labels) == {"a": "b"}
    # What hangs on a main name goes with it.
    assert found[1].labels["containerd.io/gc.bref.image"] == "main:1"
    assert "containerd.io/gc.expire" in found[1].labels
    assert records(store(), TARGET) == []
