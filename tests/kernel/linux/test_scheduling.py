"""Scheduling as the kernel then reports it."""

from __future__ import annotations

import os

from sampan.linux import scheduling


def _in_child(step: str) -> str:
    """Set it in a child, whose own it is, and return what the child then reads."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            exec(step)  # noqa: S102
            found = (
                scheduling.sched_getattr(0), scheduling.ioprio_get(0), scheduling.get_mempolicy()
            )  # fmt: skip
            os.write(write, repr(found).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


def test_all_three() -> None:
    policies, classes, modes = "SCHED_POLICIES", "IOPRIO_CLASSES", "MPOL_MODES"
    steps = (
        f"scheduling.sched_setattr(0, scheduling.{policies}['SCHED_BATCH'], nice=7)",
        f"scheduling.ioprio_set(0, scheduling.{classes}['IOPRIO_CLASS_BE'], 5)",
        f"scheduling.set_mempolicy(scheduling.{modes}['MPOL_BIND'], 1)",
    )
    assert _in_child("; ".join(steps)) == "((3, 0, 7, 0), (2, 5), (2, 1))"
