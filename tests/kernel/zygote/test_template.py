"""The template: workers from it are as any others, and its death is nobody's loss."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.linux import process
from sampan.zygote import Zygote
from sampan.zygote import template as template_module

WORKERS = """
import gc, os, signal, sys
def report(payload, fds):
    from sampan.linux import fds as f, signals
    ignored, caught = signals.ignored_and_caught()
    leads = os.getsid(0) == os.getpid()
    os.write(fds[0], repr((len(payload), len(f.list_fds()), os.umask(0), os.getcwd(), leads,
        signals.mask(), ignored, caught, gc.isenabled(), os.readlink("/proc/self/fd/0"),
        os.getppid(), f.list_fds() == [0, 1, 2, *fds])).encode())
    return 7
def idle(payload, fds):
    os.write(fds[0], b"up")
    signal.pause()
def private(payload, fds):
    signal.pause()
"""


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    (tmp_path / "template_workers.py").write_text(WORKERS)
    null = os.open("/dev/null", os.O_WRONLY)
    path = [str(tmp_path), *sys.path]
    with Zygote.start(("template_workers",), path=path, stderr=null) as started:
        yield started
    os.close(null)


def templates(zygote: Zygote) -> list[int]:
    children = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if Path(f"/proc/{child}/comm").read_text() == "sampan-template\n"
    ]


def report(zygote: Zygote, payload: bytes) -> tuple[object, ...]:
    read_end, write_end = os.pipe()
    with zygote.fork("template_workers:report", payload, [write_end]) as worker:
        assert worker.wait(10) == 7
    found: tuple[object, ...] = eval(os.read(read_end, 4096))  # noqa: S307
    os.close(read_end)
    os.close(write_end)
    return found


def test_its_workers_begin_as_the_zygotes_own(zygote: Zygote) -> None:
    """A long payload goes past the template: the two kinds of birth are compared."""
    assert template_module.Template.__module__ == "sampan.zygote.template"
    by_template = report(zygote, b"short")
    assert len(templates(zygote)) == 1
    by_zygote = report(zygote, bytes(300_000))
    assert by_template[0] == 5
    assert by_template[1:] == by_zygote[1:]
    assert by_template[-2:] == (zygote.pid, True)


def test_a_killed_template_is_replaced(zygote: Zygote) -> None:
    report(zygote, b"")
    (first,) = templates(zygote)
    for _ in range(3):
        (now,) = templates(zygote)
        pidfd = process.pidfd_open(now)
        os.kill(now, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
        assert report(zygote, b"x")[0] == 1
        assert report(zygote, b"xy")[0] == 2
    assert first not in templates(zygote)


def test_it_ends_with_the_zygote_and_its_workers_do_not(zygote: Zygote) -> None:
    read_end, write_end = os.pipe()
    worker = zygote.fork("template_workers:idle", b"", [write_end])
    assert os.read(read_end, 2) == b"up"
    (template,) = templates(zygote)
    pidfd = process.pidfd_open(template)
    zygote.close()
    assert select.select([pidfd], [], [], 10)[0]
    assert not select.select([worker.pidfd], [], [], 0)[0]
    worker.signal(signal.SIGKILL)
    assert select.select([worker.pidfd], [], [], 10)[0]
    worker.close()
    for fd in (pidfd, read_end, write_end):
        os.close(fd)


def test_what_is_preloaded_later_is_in_the_next_template(zygote: Zygote, tmp_path: Path) -> None:
    report(zygote, b"")
    (tmp_path / "late_worker.py").write_text("def work(payload, fds):\n    return 9\n")
    zygote.preload(("late_worker",))
    with zygote.fork("late_worker:work") as worker:
        assert worker.wait(10) == 9
    assert len(templates(zygote)) == 1
