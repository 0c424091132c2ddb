# ruff: noqa: T201, ASYNC251, ASYNC240
"""Many processes on one root: sandboxes made, cancelled and killed at random; nothing stays."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sampan.sandbox.clients import in_process
from sampan.testing import requires

CREW = """
import asyncio, contextlib, random, sys
from sampan.errors import SampanError
from sampan.sandbox.clients import in_process

async def one(client, dice):
    async with client.sandbox("host:") as box:
        kind = dice.randrange(5)
        if kind == 0:
            assert (await box.run("echo", "x")).text == "x\\n"
        elif kind == 1:
            with contextlib.suppress(SampanError):
                await box.run("sh", "-c", "sleep 60 & sleep 60", timeout=0.05)
        elif kind == 2:
            await box.write("/a", "b")
            async with await box.fork() as child:
                assert await child.read("/a") == b"b"
        elif kind == 3:
            async with box.exec("cat") as p:
                await p.stdin.write("hello\\n")
                await p.stdout.readline()
        else:
            await box.snapshot("s")

async def main():
    root, state, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    dice = random.Random(seed)
    async with in_process(root=root, state=state, namespace=sys.argv[5]) as client:
        print("open", flush=True)
        for _ in range(count):
            task = asyncio.create_task(one(client, dice))
            if dice.random() < 0.3:
                done, _ = await asyncio.wait((task,), timeout=dice.random() * 0.2)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            print("done", flush=True)

asyncio.run(main())
"""

SOAK = bool(os.environ.get("SAMPAN_SOAK"))
WANTED = 1000 if SOAK else 60
LONGEST_S = 1800 if SOAK else 20
CREWS = 8
NAMESPACE = f"crew{os.getpid()}"
"""Of our own, so that cgroups can be told from those of other tests."""


class Crew:
    """One process, started again whenever it ends."""

    def __init__(self, root: Path, state: Path, dice: random.Random) -> None:
        self._argv = [sys.executable, "-c", CREW, str(root), str(state)]
        self._dice = dice
        self.count = 0
        self.errors: list[str] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self._argv, str(self._dice.randrange(1 << 30)), "50", NAMESPACE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def look(self) -> None:
        """Count what was done; kill or go on."""
        assert self.process.stdout is not None
        data = self.process.stdout.read() or b""
        self.count += data.count(b"done")
        if self.process.poll() is not None:
            self.over()
            self.start()
        elif self._dice.random() < 0.002:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.over()
            self.start()

    def over(self) -> None:
        _, errors = self.process.communicate()
        if self.process.returncode not in (0, -signal.SIGKILL):
            self.errors.append(errors.decode()[-3000:])


@requires("root")
async def test_nothing_stays(root: Path, state: Path, left: Callable[[], list[str]]) -> None:
    seed = int(os.environ.get("SAMPAN_SEED") or time.time_ns() % 1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    crews = [Crew(root, state, dice) for _ in range(CREWS)]
    until = time.monotonic() + LONGEST_S
    try:
        while sum(crew.count for crew in crews) < WANTED and time.monotonic() < until:
            for crew in crews:
                crew.look()
            time.sleep(0.02)
    finally:
        for crew in crews:
            crew.process.kill()
            crew.process.wait()
            crew.over()
    count = sum(crew.count for crew in crews)
    assert [error for crew in crews for error in crew.errors] == [], f"seed {seed}"
    assert count > 0
    print(f"{count} sandboxes by {CREWS} processes")
    _wait_for_shims(state)
    async with in_process(root=root, state=state, namespace=NAMESPACE) as client:
        assert await client.sandboxes() == []
        await client.collect_garbage()
    assert left() == [], f"seed {seed}"
    folders = list(Path("/sys/fs/cgroup").glob(f"*/sampan/{NAMESPACE}"))
    assert [path for one in folders for path in one.iterdir() if path.is_dir()] == []
    for one in folders:  # a namespace's own stays, as runc leaves parents; this one was for here
        one.rmdir()


def _wait_for_shims(state: Path) -> None:
    """Shims of killed owners end by themselves, soon: their pidfds tell."""
    for file in state.glob("io.containerd.runtime.v2.task/*/*/shim.pid"):
        try:
            pidfd = os.pidfd_open(int(file.read_text().split()[0]))
        except (OSError, IndexError):
            continue
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(20_000)
        os.close(pidfd)
