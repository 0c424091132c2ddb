"""Entry points: found where a package announces them, and a broken one stops nobody."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine import discovery

MODULE = """
from sampan.plugin import PluginType, Registration
one = Registration(PluginType("io.x.v1"), "one", lambda ctx: 1)
two = [Registration(PluginType("io.x.v1"), "two", lambda ctx: 2), one]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "third_party_of_test.py").write_text(MODULE)
    info = tmp_path / "third_party_of_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: third-party-of-test\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield info
    sys.modules.pop("third_party_of_test", None)


def test_registrations_are_found(package: Path) -> None:
    (package / "entry_points.txt").write_text(
        "[sampan.plugins]\na = third_party_of_test:one\nb = third_party_of_test:two\n"
    )
    assert [one.uri for one in discovery.third_party()] == ["io.x.v1.one", "io.x.v1.two"]
    assert "io.x.v1.two" in discovery.uris()


def test_a_broken_one_is_logged(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    (package / "entry_points.txt").write_text(
        "[sampan.plugins]\na = third_party_of_test:none\nb = third_party_of_test:MODULE\n"
        "c = third_party_of_test:__name__\nd = third_party_of_test:one\n"
    )
    with caplog.at_level(logging.ERROR):
        assert [one.uri for one in discovery.third_party()] == ["io.x.v1.one"]
    assert "third_party_of_test:none" in caplog.text
    assert "no Registration" in caplog.text


def test_nothing_is_loaded_where_nobody_announces(tmp_path: Path) -> None:
    assert discovery.third_party([str(tmp_path), str(tmp_path / "none")]) == []


def test_ours_are_there() -> None:
    assert "io.containerd.snapshotter.v1.overlayfs" in [one.uri for one in discovery.builtin()]
