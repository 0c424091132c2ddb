"""Which mounts of a task's rootfs are spelled out for the mount manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sampan.errors import AlreadyExists, FailedPrecondition, NotFound, Unimplemented
from sampan.model.mounts import Mount
from sampan.runtime.mounting import Activation
from sampan.services.tasks.rootfs import TaskMounts


class Manager:
    """Says what it is told to say, and keeps what it was asked."""

    def __init__(self, answer: Activation | Exception) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    async def activate(
        self,
        name: str,
        mounts: Sequence[Mount],
        *,
        labels: Mapping[str, str] | None = None,
        temporary: bool = False,
    ) -> Activation:
        assert not temporary
        self.asked.append((name, list(mounts), dict(labels or {})))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def info(self, name: str) -> Activation:
        return Activation(name, [], [Mount("found", "again")])

    async def deactivate(self, name: str) -> None:
        del name
        if isinstance(self.answer, Exception):
            raise self.answer


def mounts(answer: Activation | Exception) -> tuple[TaskMounts, Manager]:
    manager = Manager(answer)
    return TaskMounts(manager), manager  # type: ignore[arg-type]


async def test_what_needs_nobody_goes_to_the_shim() -> None:
    task, manager = mounts(Unimplemented("nothing to do"))
    rootfs = [Mount("overlay", "overlay", "", ("lowerdir=/a:/b",))]
    assert await task.activate("c", rootfs) == (rootfs, False)
    assert manager.asked[0][2] == {"containerd.io/gc.bref.container": "c"}


async def test_loop_is_two_mounts() -> None:
    task, manager = mounts(Activation("c", [], [Mount("xfs", "/dev/loop0")]))
    got = await task.activate("c", [Mount("xfs", "/img", "", ("ro", "loop"))])
    assert got == ([Mount("xfs", "/dev/loop0")], True)
    assert manager.asked[0][1] == [
        Mount("loop", "/img", "", ("ro",)),
        Mount("format/xfs", "{{ mount 0 }}", "", ("ro",)),
    ]
    await task.activate("c", [Mount("bind", "/x"), Mount("ext4", "/img", "/d", ("loop",))])
    assert manager.asked[1][1][1:] == [
        Mount("loop", "/img"),
        Mount("format/ext4", "{{ mount 1 }}", "/d"),
    ]


async def test_templates_are_left_as_they_are() -> None:
    task, manager = mounts(Activation("c"))
    rootfs = [Mount("loop", "/img"), Mount("format/xfs", "{{ mount 0 }}", "", ("loop",))]
    await task.activate("c", rootfs)
    assert manager.asked[0][1] == rootfs


async def test_a_second_try_uses_what_is_there() -> None:
    task, _ = mounts(AlreadyExists("there"))
    assert await task.activate("c", []) == ([Mount("found", "again")], False)


@pytest.mark.parametrize("error", [NotFound("none"), FailedPrecondition("busy")])
async def test_a_deletion_never_fails(error: Exception) -> None:
    task, _ = mounts(error)
    await task.deactivate("c")
