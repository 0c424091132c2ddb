"""Making the output of two daemons comparable, and the archive that they are given."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from sampan.testing.daemons import masked, requirements, tiny_archive


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a   b\t\tc \n\n d", "a b c\nd"),
        ("at 2026-11-21T07:20:36.583Z", "at TIME"),
        ("2026-11-21 07:20:36.5 +0000 UTC x", "TIME x"),
        ("made 21 seconds ago", "made AGE"),
        ("Less than a second", "AGE"),
        ("b=2,a=1 z", "a=1,b=2 z"),
        ("\x1b[32mgreen\x1b[0m", "green"),
        ("took: 12.3ms", "took TIME"),
        ("5.2 MiB/s", "RATE"),
    ],
)
def test_what_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_more_masks() -> None:
    assert masked("pid 123 of c-1", (r"\d+", "N")) == "pid N of c-N"


def test_the_archive_names_its_image(tmp_path: Path) -> None:
    with tarfile.open(tiny_archive(tmp_path, "a.b/c:1")) as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        (item,) = json.loads(file.read())
        assert item["RepoTags"] == ["a.b/c:1"]
        assert {item["Config"], *item["Layers"]} < set(tar.getnames())


def test_every_kind_has_its_needs() -> None:
    for kind in ("sampand", "containerd", "containerd-2"):
        assert requirements(kind)[0] == "root"
