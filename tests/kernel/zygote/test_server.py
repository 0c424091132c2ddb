"""The zygote: what workers start with, who may die, and what bad requests do."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, Unavailable
from sampan.linux import fds, process
from sampan.zygote import Zygote
from sampan.zygote.protocol import VERSION, pack

WORKERS = """
import gc, os, signal, sys
def report(payload, fds):
    from sampan.linux import fds as f, signals
    ignored, caught = signals.ignored_and_caught()
    open_fds = f.list_fds()
    leads = os.getsid(0) == os.getpid()
    os.write(fds[0], repr((len(payload), open_fds, os.umask(0), os.getcwd(), leads,
        signals.mask(), ignored, caught, gc.isenabled(), os.readlink("/proc/self/fd/0"))).encode())
    return 7
def imports(payload, fds):
    import wave
def idle(payload, fds):
    os.write(fds[0], b"up")
    signal.pause()
"""


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    (tmp_path / "zygote_workers.py").write_text(WORKERS)
    null = os.open("/dev/null", os.O_WRONLY)
    with Zygote.start(("zygote_workers",), path=[str(tmp_path), *sys.path], stderr=null) as started:
        yield started
    os.close(null)


def test_worker_starts_like_a_fresh_program(zygote: Zygote) -> None:
    read_end, write_end = os.pipe()
    with zygote.fork("zygote_workers:report", bytes(300_000), [write_end]) as worker:
        assert worker.wait(10) == 7
    length, open_fds, umask, cwd, leads, mask, ignored, caught, gc_on, stdin = eval(  # noqa: S307
        os.read(read_end, 4096)
    )
    assert length == 300_000
    assert open_fds[:3] == [0, 1, 2]
    assert len(open_fds) == 4
    assert (umask, cwd, leads, mask, caught, gc_on) == (0o022, "/", True, 0, 0, True)
    assert ignored == 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert stdin == "/dev/null"
    os.close(read_end)
    os.close(write_end)


def test_import_after_the_fork_is_refused(zygote: Zygote) -> None:
    with zygote.fork("zygote_workers:imports") as worker:
        assert worker.wait(10) == 70
    with zygote.fork("zygote_workers:imports", allow_imports=True) as worker:
        assert worker.wait(10) == 0


def test_killed_zygote_leaves_workers_and_can_be_replaced(zygote: Zygote) -> None:
    read_end, write_end = os.pipe()
    with zygote.fork("zygote_workers:idle", b"", [write_end]) as worker:
        assert os.read(read_end, 2) == b"up"
        os.kill(zygote.pid, signal.SIGKILL)
        assert process.pidfd_wait(zygote.pidfd, 10)
        assert not zygote.alive()
        with pytest.raises(Unavailable):
            zygote.fork("zygote_workers:idle")
        assert not process.pidfd_wait(worker.pidfd, 0)
        zygote.restart()
        with zygote.fork("zygote_workers:report", b"", [write_end]) as other:
            assert other.wait(10) == 7
        worker.signal(signal.SIGKILL)
        assert process.pidfd_wait(worker.pidfd, 10)
    os.close(read_end)
    os.close(write_end)


def test_closing_ends_the_zygote_and_not_its_worker(zygote: Zygote) -> None:
    read_end, write_end = os.pipe()
    worker = zygote.fork("zygote_workers:idle", b"", [write_end])
    assert os.read(read_end, 2) == b"up"
    zygote.close()
    assert not process.pidfd_wait(worker.pidfd, 0)
    worker.signal(signal.SIGTERM)
    assert process.pidfd_wait(worker.pidfd, 10)
    worker.close()
    os.close(read_end)
    os.close(write_end)


def test_bad_requests_are_answered_and_survived(zygote: Zygote) -> None:
    for target in ("no.such.module:f", "zygote_workers:nothing", "nonsense"):
        with pytest.raises(InvalidArgument, match="refused fork"):
            zygote.fork(target)
    with pytest.raises(InvalidArgument, match="Invalid argument"):
        zygote.fork("zygote_workers:report", clone_flags=process.CLONE_PARENT | 0xFF)
    raw = zygote._socket
    assert raw is not None
    for message in (
        b"x",
        pack(b"99", b"hello"),
        pack(VERSION, b"dance"),
        pack(VERSION),
        b"\xff" * 50,
    ):
        fds.send_fds(raw, message, [0, 1, 2])
        answer, _ = fds.recv_fds(raw, 131072)
        assert b"error" in answer
    inside = os.listdir(f"/proc/{zygote.pid}/fd")
    for _ in range(20):
        with zygote.fork("zygote_workers:imports", allow_imports=True) as worker:
            assert worker.wait(10) == 0
    assert len(os.listdir(f"/proc/{zygote.pid}/fd")) == len(inside)


def test_zygote_runs_a_protected_interpreter(zygote: Zygote) -> None:
    with fds.OwnedFd(os.open(f"/proc/{zygote.pid}/exe", os.O_RDONLY)) as program:
        assert os.fstatvfs(program.fd).f_flag & os.ST_RDONLY or fds.is_sealed(program.fd)
