"""SIGKILL of the daemon at random moments while several clients work: the next one loses nothing.

What is promised is there, what was half done goes, and the counts of mounts, cgroups, processes,
rows and files return to what they were.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.integration.daemon.test_kills import init
from tests.integration.daemon.test_trace_kills import (
    IMAGE,
    SLEEP,
    archive,
    clear,
    left,
    shims_end,
)

from sampan.testing import requires, unique_name

__all__ = ["archive", "init"]

pytestmark = requires("root", "ctr", "busybox")

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
KILLS = 300 if SOAK else 4
LONGEST_S = 7200.0 if SOAK else 24.0
CLIENTS = 4


class Client(threading.Thread):
    """Makes containers, runs a program in each, and removes them, until the daemon is gone."""

    def __init__(self, daemon: Any, tag: str, seed: int) -> None:
        super().__init__()
        self._daemon = daemon
        self._tag = tag
        self._chance = random.Random(seed)
        self.kept: list[str] = []
        """Containers whose start succeeded, and that nobody was told to remove."""
        self.over = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            name = f"{self._tag}-{number}"
            flags = ("--null-io", "--cgroup", f"/{name}")
            if not self._ctr("run", "-d", *flags, IMAGE, name, *SLEEP):
                continue
            self.kept.append(name)
            self._ctr("task", "exec", "--exec-id", "e", name, "/bin/busybox", "true")
            if self._chance.random() < 0.7:
                self.kept.remove(name)
                self._ctr("task", "rm", "-f", name)
                self._ctr("container", "rm", name)

    def _ctr(self, *words: str) -> bool:
        if self.over.is_set():
            return False
        self._child = subprocess.Popen(
            ["ctr", "-a", str(self._daemon.address), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self._child.wait() == 0

    def end(self) -> None:
        """Stop, and take the client in hand along: it would go on trying for a minute."""
        self.over.set()
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.kill()
        self.join()


def running(daemon: Any) -> set[str]:
    rows = (line.split() for line in daemon.ok("task", "ls").splitlines()[1:])
    return {row[0] for row in rows if row[2] == "RUNNING"}


def test_killed_under_load(stopped: Any, archive: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    stopped.start()
    until = time.monotonic() + LONGEST_S
    for _ in range(KILLS):
        if time.monotonic() > until:
            break
        stopped.ok("image", "import", "--base-name", "example.com/box", str(archive))
        tag = unique_name("l")
        clients = [
            Client(stopped, f"{tag}{number}", chance.randrange(1 << 30))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        death = os.pidfd_open(stopped.pid)
        try:
            # Any moment will do.
            assert not select.select([death], [], [], chance.uniform(0.3, 2.0))[0]
        finally:
            os.close(death)
        stopped.kill()
        for client in clients:
            client.end()
        stopped.start()
        kept = {name for client in clients for name in client.kept}
        assert kept <= running(stopped), stopped.log.read_text()[-2000:]
        shims = stopped.shims()
        clear(stopped)
        shims_end(stopped, shims)
        assert left(stopped, tag) == [], stopped.log.read_text()[-2000:]
