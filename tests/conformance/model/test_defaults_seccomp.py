"""The default seccomp profile decides every system call as containerd's does.

The peer is containerd 2.4.2's own Go package, asked at run time. Differences: none.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sampan.linux.capabilities import NAMES
from sampan.model.runtime.defaults import DEFAULT_CAPABILITIES
from sampan.model.runtime.defaults_seccomp import default_seccomp
from sampan.testing import requires

HERE = Path(__file__).parent / "seccomp_dump"

Decisions = dict[str, set[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def containerds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seccomp") / "src"
    shutil.copytree(HERE, folder)
    built = subprocess.run(
        ["go", "build", "-o", "dump", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if built.returncode != 0:
        pytest.skip(f"containerd's Go module cannot be had: {built.stderr[-300:]}")
    return folder / "dump"


def decisions(profile: dict[str, Any]) -> Decisions:
    """Return, by name, each way in which a call is decided otherwise than by default."""
    found: Decisions = {}
    for rule in profile["syscalls"]:
        arguments = tuple(
            sorted(
                (one["index"], one["op"], one.get("value", 0), one.get("valueTwo", 0))
                for one in rule.get("args") or ()
            )
        )
        allowed = rule["action"] == "SCMP_ACT_ALLOW"
        way = (rule["action"], None if allowed else rule.get("errnoRet"), arguments)
        for name in rule["names"]:
            found.setdefault(name, set()).add(way)
    return found


@requires("go")
@pytest.mark.parametrize(
    "capabilities",
    [
        pytest.param((), id="none"),
        pytest.param(DEFAULT_CAPABILITIES, id="default"),
        *(pytest.param((name,), id=name) for name in sorted(NAMES)),
        pytest.param(tuple(sorted(NAMES)), id="all"),
    ],
)
def test_decides_as_containerd(containerds: Path, capabilities: tuple[str, ...]) -> None:
    answer = subprocess.run([containerds, *capabilities], capture_output=True, check=True)
    theirs = json.loads(answer.stdout)
    ours = default_seccomp(capabilities).to_json()
    assert decisions(ours) == decisions(theirs)
    assert ours["defaultAction"] == theirs["defaultAction"]
    assert ours["architectures"] == theirs["architectures"]
