from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sampan.concurrency import run
from sampan.errors import DeadlineExceeded, Unknown


async def test_output_input_and_code() -> None:
    done = await run(["sh", "-c", "cat; echo bad >&2; exit 3"], stdin=b"x" * 300_000)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"x" * 300_000, b"bad\n")
    with pytest.raises(Unknown, match="exit code 3: bad"):
        done.check()


async def test_no_shell_own_session_and_environment() -> None:
    done = await run(["sh", "-c", "cat /proc/$$/stat; echo $$ $A"], env={"A": "$HOME"})
    stat, rest = done.stdout.decode().splitlines()
    assert rest.split() == [stat.split()[5], "$HOME"]


async def test_caps_output() -> None:
    done = await run(["head", "-c", "1000000", "/dev/zero"], cap_bytes=1000)
    assert len(done.stdout) == 1000
    assert done.stdout_truncated
    assert not done.stderr_truncated


async def test_missing_program() -> None:
    with pytest.raises(FileNotFoundError):
        await run(["/nonexistent/program"])


@pytest.mark.parametrize("how", ["deadline", "cancel"])
async def test_group_dies(how: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # The grandchild holds the fifo open for writing: end of file says that it is dead.
    script = f'sleep 1000 > "{fifo}" & wait'
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    task = loop.create_task(run(["sh", "-c", script], timeout_s=0.2 if how == "deadline" else None))
    if how == "cancel":
        await asyncio.wait((task,), timeout=0.1)
        task.cancel()
    with pytest.raises(DeadlineExceeded if how == "deadline" else asyncio.CancelledError):
        await task
    ended = asyncio.Event()
    loop.add_reader(reader, ended.set)
    async with asyncio.timeout(10):
        await ended.wait()
    assert os.read(reader, 1) == b""
    loop.remove_reader(reader)
    os.close(reader)


async def test_leaves_no_fd() -> None:
    await run(["true"])
    before = len(os.listdir("/proc/self/fd"))
    await run(["true"], stdin=b"unread")
    with pytest.raises(FileNotFoundError):
        await run(["/nonexistent/program"], stdin=b"unread")
    assert len(os.listdir("/proc/self/fd")) == before
