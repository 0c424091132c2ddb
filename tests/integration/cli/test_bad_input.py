"""Each bad input gives one sentence, a status that is not 0, and leaves nothing half done."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import requires

pytestmark = [requires("root")]
Program = Any


def _one_sentence(done: Any) -> str:
    assert done.status != 0
    lines: list[str] = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sampan: ")
    return lines[0]


@pytest.mark.parametrize("reference", ["", "a b", "Upper/Case", "a@sha256:12", "x:bad tag"])
def test_malformed_reference(sampan: Program, reference: str) -> None:
    _one_sentence(sampan("pull", reference))


@pytest.mark.parametrize(
    "words",
    [
        ("--no-such-flag", "host:", "true"),
        ("-u", "no-such-user", "host:", "true"),
        ("-u", "4294967296", "host:", "true"),
        ("-w", "relative", "host:", "true"),
        ("--memory", "much", "host:", "true"),
        ("--cap-add", "FLY", "host:", "true"),
    ],
)
def test_bad_flags_of_run_are_125_and_make_nothing(sampan: Program, words: tuple[str, ...]) -> None:
    done = sampan("run", *words)
    _one_sentence(done)
    assert done.status == 125
    assert sampan.containers() == []


def test_no_root(sampan: Program, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    folders = ["--root", str(locked / "r"), "--state", str(locked / "s")]
    done = subprocess.run(
        [*sampan.argv, *folders, "ps"],
        env=sampan.environment,
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        extra_groups=(),
        cwd="/",
    )
    if "sampan: " not in done.stderr:
        pytest.skip("user nobody cannot read this checkout")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run as root" in done.stderr


def test_unknown_key_in_the_config_file(sampan: Program, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[plugins."io.containerd.snapshotter.v1.overlayfs"]\nroot_pth = "/x"\n')
    sampan.environ["SAMPAN_CONFIG"] = str(file)
    said = _one_sentence(sampan("ps"))
    assert str(file) in said
    assert "root_pth" in said
    file.write_text('[plugins."io.example.none"]\n')
    assert "io.example.none" in _one_sentence(sampan("ps"))
    del sampan.environ["SAMPAN_CONFIG"]


@pytest.mark.parametrize("verb", ["logs", "rm", "stop", "kill", "inspect", "rmi", "top"])
def test_missing_things(sampan: Program, verb: str) -> None:
    done = sampan(verb, "nosuchthing")
    assert done.status == 1
    assert len(done.stderr.strip().splitlines()) == 1
