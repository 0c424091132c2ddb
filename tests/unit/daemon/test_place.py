"""The daemon's own place: wrong settings are refused before anything is done."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sampan.daemon.place import take_place
from sampan.engine import resolve
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"oom_score": 1001}, "oom_score"),
        ({"cgroup": "relative"}, r"cgroup\.path"),
        ({"cgroup": "/a/../b"}, r"cgroup\.path"),
    ],
)
def test_wrong_settings(change: dict[str, Any], key: str) -> None:
    settings = dataclasses.replace(resolve({}, {}, uid=0), **change)
    with pytest.raises(InvalidArgument, match=key):
        take_place(settings)


def test_what_is_there_already_may_be_asked_for() -> None:
    score = int(Path("/proc/self/oom_score_adj").read_text())
    take_place(dataclasses.replace(resolve({}, {}, uid=0), oom_score=score))
    assert int(Path("/proc/self/oom_score_adj").read_text()) == score
