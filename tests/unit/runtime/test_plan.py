"""What of a list of mounts is the manager's."""

from __future__ import annotations

import pytest

from sampan.model.mounts import Mount
from sampan.runtime.mounting.plan import planned


@pytest.mark.parametrize(
    ("types", "needed", "ours"),
    [
        (["bind"], False, 0),
        ([], False, 0),
        (["overlay", "bind"], False, 0),
        (["loop"], True, 1),
        (["loop", "format/xfs"], True, 1),
        (["format/bind"], True, 0),
        (["tmpfs", "format/mkdir/overlay"], True, 1),
        (["format/mkdir/overlay", "bind"], True, 0),
        (["loop", "loop", "overlay"], True, 2),
        (["unknown/overlay"], False, 0),
    ],
)
def test_plans(types: list[str], needed: bool, ours: int) -> None:
    plan = planned([Mount(one, "") for one in types])
    assert (plan.needed, plan.ours if needed else 0) == (needed, ours)


def test_chains_are_in_order() -> None:
    plan = planned([Mount("tmpfs", ""), Mount("format/mkfs/mkdir/x/y", "")])
    assert plan.chains == [(), ("format", "mkfs", "mkdir")]


def test_for_the_time_being_everything_is_ours() -> None:
    assert planned([Mount("tmpfs", ""), Mount("bind", "/")], temporary=True).ours == 2
