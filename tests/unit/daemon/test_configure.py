"""`sampand config`: prints what it reads, and migrating twice is migrating once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from sampan.daemon.configure import answer
from sampan.errors import InvalidArgument

OVERLAY = "io.containerd.snapshotter.v1.overlayfs"
V2 = 'version = 2\nroot = "/r"\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "p:1"\n'


def test_default_names_every_plugin(tmp_path: Path) -> None:
    found = tomllib.loads(answer("default", tmp_path / "none"))
    assert found["version"] == 4
    assert found["plugins"][OVERLAY]["root_path"] == ""
    assert found["plugins"]["io.containerd.gc.v1.scheduler"]["startup_delay"] == "100ms"


def test_migrate_is_idempotent_and_adds_nothing(tmp_path: Path) -> None:
    file, once = tmp_path / "2.toml", tmp_path / "4.toml"
    file.write_text(V2)
    once.write_text(answer("migrate", file))
    assert answer("migrate", once) == once.read_text()
    assert tomllib.loads(once.read_text()) == {
        "version": 4,
        "root": "/r",
        "plugins": {"io.containerd.cri.v1.images": {"pinned_images": {"sandbox": "p:1"}}},
    }


def test_dump_is_the_defaults_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "2.toml"
    file.write_text(V2)
    found = tomllib.loads(answer("dump", file))
    assert found["root"] == "/r"
    images = found["plugins"]["io.containerd.cri.v1.images"]
    assert (images["pinned_images"]["sandbox"], images["max_concurrent_downloads"]) == ("p:1", 3)


def test_our_own_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'root = "/r"\n[plugins."{OVERLAY}"]\nroot_path = "/o"\n')
    found = tomllib.loads(answer("dump", file))
    assert (found["root"], found["plugins"][OVERLAY]["root_path"]) == ("/r", "/o")
    assert tomllib.loads(answer("migrate", file)) == tomllib.loads(file.read_text())


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="does not exist"):
        answer("dump", tmp_path / "none")
