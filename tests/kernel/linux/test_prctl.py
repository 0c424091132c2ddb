"""prctl, judged by /proc and by a child."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.linux import prctl


def in_child(work: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def status(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def test_what_is_set_is_read_again() -> None:
    def work() -> bool:
        prctl.set_dumpable(False)
        prctl.set_keepcaps(True)
        prctl.set_name("a-name-of-mine")
        prctl.set_timerslack(70_000)
        prctl.set_child_subreaper(True)
        prctl.set_pdeathsig(signal.SIGTERM)
        return (
            not prctl.get_dumpable()
            and prctl.get_keepcaps()
            and prctl.get_name() == b"a-name-of-mine"
            and prctl.get_timerslack() == 70_000
            and prctl.get_child_subreaper()
            and prctl.get_pdeathsig() == signal.SIGTERM
        )

    assert in_child(work)


def test_no_new_privileges_stay() -> None:
    def work() -> bool:
        before = prctl.get_no_new_privs()
        prctl.set_no_new_privs()
        return not before and prctl.get_no_new_privs() and status("NoNewPrivs") == "1"

    assert in_child(work)


def test_a_subreaper_is_not_inherited() -> None:
    def work() -> bool:
        prctl.set_child_subreaper(True)
        return in_child(lambda: not prctl.get_child_subreaper())

    assert in_child(work)


def test_errors_are_told() -> None:
    with pytest.raises(OSError, match="prctl"):
        prctl.prctl(99999)
