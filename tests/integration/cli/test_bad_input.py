"""Each bad input gives one sentence, a status that is not 0, and leaves nothing half done."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import requires

pytestmark = [requires("root")]
Cli = Any


def _one_sentence(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode != 0
    lines = done.stderr.decode().strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sampan: ")
    return lines[0]


@pytest.mark.parametrize("reference", ["", "a b", "Upper/Case", "a@sha256:12", "x:bad tag"])
def test_malformed_reference(sampan: Cli, reference: str) -> None:
    _one_sentence(sampan("pull", reference))


def test_nobody_listens(sampan: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        said = _one_sentence(sampan("pull", f"127.0.0.1:{taken.getsockname()[1]}/x:1"))
    assert "127.0.0.1" in said


def test_full_disk(sampan: Cli, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], check=True)
    try:
        done = sampan("image", "from-host", "big", "python3", SAMPAN_ROOT=str(small / "root"))
        assert "space" in _one_sentence(done).lower()
    finally:
        subprocess.run(["umount", small], check=True)


def test_no_root(sampan: Cli, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    done = subprocess.run(
        sampan.argv("ps"),
        env={**sampan.env, "SAMPAN_ROOT": str(locked / "r"), "SAMPAN_STATE": str(locked / "s")},
        capture_output=True,
        user=65534,
        group=65534,
        cwd="/",
    )
    if b"Permission denied" in done.stderr and b"sampan: " not in done.stderr:
        pytest.skip("user nobody cannot read this checkout")
    assert "run as root" in _one_sentence(done)


def test_unknown_key_in_the_config_file(sampan: Cli, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[plugins."io.containerd.snapshotter.v1.overlayfs"]\nroot_pth = "/x"\n')
    said = _one_sentence(sampan("--config", str(file), "ps"))
    assert str(file) in said
    assert "root_pth" in said
    file.write_text('[plugins."io.example.none"]\n')
    assert "io.example.none" in _one_sentence(sampan("--config", str(file), "ps"))


def test_missing_things(sampan: Cli) -> None:
    for words in (
        ("logs", "x"),
        ("rm", "x"),
        ("exec", "x", "true"),
        ("inspect", "x"),
        ("rmi", "x"),
    ):
        _one_sentence(sampan(*words))
    assert os.listdir(sampan.root)
