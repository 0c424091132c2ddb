# ruff: noqa: ASYNC110, ASYNC220, ASYNC240, PT012, PT017, ANN204, C416
"""Nothing outlives what made it: judged by the kernel and the disk, not by what we believe."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.errors import FailedPrecondition, SampanError
from sampan.sandbox.box import Sandbox
from sampan.sandbox.clients import Client, in_process
from sampan.sandbox.values import TimeoutExpired
from sampan.testing import requires

OWNER = """
import sys, sampan
with sampan.in_process(root=sys.argv[1], state=sys.argv[2]) as client:
    with client.sandbox("host:", detach=len(sys.argv) > 3) as box:
        with box.exec("sh", "-c", "sleep 1000 & sleep 1000", stdin=False) as p:
            print(box.pid, p.pid, box.id, flush=True)
            sys.stdin.read()
"""


def ended(pidfd: int, timeout_s: float = 20) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


@requires("root")
async def test_sigkill_of_the_owner_ends_everything(
    root: Path, state: Path, left: Callable[[], list[str]]
) -> None:
    """The shim does it, by the pidfd that it holds; rows and files go with the next owner."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(root), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    first, second, id_ = owner.stdout.readline().decode().split()
    pidfds = [os.pidfd_open(int(pid)) for pid in (first, second)]
    owner.kill()
    owner.wait()
    assert all(ended(fd) for fd in pidfds)
    for fd in pidfds:
        os.close(fd)
    owner.stdin.close()
    owner.stdout.close()
    async with in_process(root=root, state=state) as client:
        assert await client.sandboxes() == []
    assert left() == []
    assert [path for path in Path("/sys/fs/cgroup").rglob(f"*{id_}*")] == []


@requires("root")
async def test_a_detached_one_outlives_its_owner_and_can_be_found(root: Path, state: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(root), str(state), "detach"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    _, _, id_ = owner.stdout.readline().decode().split()
    owner.stdin.close()
    assert owner.wait(20) == 0
    owner.stdout.close()
    async with in_process(root=root, state=state) as client:
        (found,) = await client.sandboxes()
        assert (found.id, found.state) == (id_, "running")
        box = await client.attach(id_[:12])
        assert (await box.run("echo", "still here")).text == "still here\n"
        await box.close(force=True)
        assert await client.sandboxes() == []


async def test_the_end_of_the_block_leaves_nothing(
    client: Client, left: Callable[[], list[str]]
) -> None:
    async with client.sandbox("host:") as box:
        await box.run("sh", "-c", "sleep 1000 & echo started")
        await box.snapshot("one")
        pidfd = os.pidfd_open(box.pid)
    assert ended(pidfd)
    os.close(pidfd)
    assert left() == []
    with pytest.raises(FailedPrecondition, match="closed"):
        await box.run("true")


async def test_an_exception_in_the_block_comes_through(
    client: Client, left: Callable[[], list[str]]
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.sandbox("host:") as box:
            await box.run("true")
            _ = 1 / 0
    assert left() == []


async def test_the_timeout_of_a_sandbox_ends_it(
    client: Client, left: Callable[[], list[str]]
) -> None:
    async with client.sandbox("host:", timeout=0.5) as box:
        with pytest.raises(TimeoutExpired, match="longer"):
            await box.run("sleep", "1000")
        with pytest.raises(TimeoutExpired):
            await box.run("true")
    assert left() == []


async def test_the_timeout_of_a_run_kills_its_tree_and_nothing_else(client: Client) -> None:
    async with client.sandbox("host:") as box, box.exec("sleep", "1000") as other:
        with pytest.raises(TimeoutExpired) as caught:
            script = "setsid sleep 999 & echo begun; sleep 999"
            await box.run("sh", "-c", script, timeout=1)
        assert caught.value.stdout == b"begun\n"
        seen = await box.run("sh", "-c", "for f in /proc/[0-9]*/cmdline; do cat $f; done")
        assert b"sleep\x00999" not in seen.stdout
        assert b"sleep\x001000" in seen.stdout
        assert other.returncode is None


async def test_leaving_an_exec_ends_it(client: Client) -> None:
    async with client.sandbox("host:") as box:
        async with box.exec("sh", "-c", "sleep 998 & sleep 998") as p:
            pidfd = os.pidfd_open(p.pid)
        assert ended(pidfd)
        os.close(pidfd)
        assert (await box.stats()).pids <= 1


async def test_an_owner_that_is_stopped_by_its_loop_leaves_nothing(
    client: Client, left: Callable[[], list[str]]
) -> None:
    async def work() -> None:
        async with client.sandbox("host:") as box:
            await box.run("sleep", "1000")

    task = asyncio.create_task(work())
    while not client._boxes:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left() == []


class Cancelling:
    """Drives a coroutine and throws CancelledError at its k-th suspension."""

    def __init__(self, work: object, at: int) -> None:
        self._work = work
        self._at = at
        self.count = 0
        self.fired = False

    def __await__(self):  # type: ignore[no-untyped-def]
        iterator = self._work.__await__()  # type: ignore[attr-defined]
        value: object = None
        error: BaseException | None = None
        while True:
            try:
                awaited = iterator.throw(error) if error else iterator.send(value)
            except StopIteration as stop:
                return stop.value
            value, error = None, None
            self.count += 1
            if self.count == self._at:
                self.fired = True
                # As Task.cancel does: what is awaited is told first, then the coroutine.
                if awaited is not None:
                    awaited._asyncio_future_blocking = False
                    awaited.cancel()
                error = asyncio.CancelledError()
                continue
            try:
                value = yield awaited
            except BaseException as err:  # noqa: BLE001 - handed on to the work
                error = err


async def scenario(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.run("cat", input="x")
        await box.write("/a", "b")
        assert await box.read("/a") == b"b"
        child = await box.fork()
        await child.close()


async def test_cancellation_at_every_await_leaves_nothing(
    client: Client, left: Callable[[], list[str]]
) -> None:
    await scenario(client)  # the zygote has what it needs, so that each turn suspends alike
    at, step = 1, 1
    while True:
        driver = Cancelling(scenario(client), at)

        async def run(driver: Cancelling = driver) -> None:
            await driver

        task = asyncio.create_task(run())
        try:
            await asyncio.wait_for(task, 60)
        except asyncio.CancelledError:
            assert driver.fired
        except SampanError as err:
            assert driver.fired, err
        assert left() == [], f"cancelled at suspension {at}"
        assert not client._boxes
        if not driver.fired:
            break
        at += step
    assert at > 30
    assert await client.sandboxes() == []


def test_an_interrupt_of_the_synchronous_face_leaves_nothing(
    root: Path, state: Path, left: Callable[[], list[str]]
) -> None:
    program = """
import sys, sampan
with sampan.in_process(root=sys.argv[1], state=sys.argv[2]) as client:
    with client.sandbox("host:") as box:
        box.run("true")
        print("ready", flush=True)
        box.run("sleep", "1000")
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(root), str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    owner.send_signal(signal.SIGINT)
    _, errors = owner.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert left() == []


def test_sandbox_is_refused_twice() -> None:
    async def twice() -> None:
        box = Sandbox("host:")
        box._begun = True
        with pytest.raises(FailedPrecondition, match="started before"):
            await box.start()

    asyncio.run(twice())
