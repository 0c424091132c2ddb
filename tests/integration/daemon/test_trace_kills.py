"""SIGKILL of the daemon at the points between its durable steps: import, unpack, run, delete, GC.

An undisturbed run of the script tells which points there are and how often each is passed. Then
daemons die at such points, the next one takes over, everything is removed, and nothing may be left:
no process, cgroup or mount, no row, no blob, no snapshot, no folder.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon.test_kills import init

from sampan.distribution.from_host import Recipe, build_layout
from sampan.testing import requires, unique_name
from sampan.testing.inventory import Kind, Scope, take

__all__ = ["init"]

pytestmark = requires("root", "ctr", "busybox")

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
ATTEMPTS = 3 if SOAK else 1
LONGEST_S = 3600.0 if SOAK else 18.0
IMAGE = "example.com/box:1"
SLEEP = ("/bin/busybox", "sleep", "1000")
FAMILIES = ("content.", "gc.", "metadata.", "owners.", "snapshots.", "tasks.", "unpack.")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    recipe = Recipe(groups=(("/bin/busybox",), ("/usr/bin/env",)), cmd=("/bin/busybox", "true"))
    build_layout(folder / "layout", recipe, name=IMAGE)
    subprocess.run(["tar", "-C", folder / "layout", "-cf", folder / "a.tar", "."], check=True)
    return folder / "a.tar"


def steps(archive: Path, name: str) -> Iterator[tuple[str, ...]]:
    yield ("image", "import", "--base-name", "example.com/box", str(archive))
    yield ("run", "-d", "--null-io", "--cgroup", f"/{name}", IMAGE, name, *SLEEP)
    yield ("task", "exec", "--detach", "--exec-id", "e", name, "/bin/busybox", "true")
    yield ("task", "rm", "-f", name)
    yield ("container", "rm", name)
    yield ("image", "rm", "--sync", IMAGE)
    yield ("content", "prune", "references")


def script(daemon: Any, archive: Path, name: str) -> None:
    """Pass every point, or stop when the daemon has died: ctr would go on trying for a minute."""
    death = os.pidfd_open(daemon.pid)
    try:
        for words in steps(archive, name):
            client = subprocess.Popen(
                ["ctr", "-a", str(daemon.address), *words],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            end = os.pidfd_open(client.pid)
            try:
                assert select.select([death, end], [], [], 60)[0], words
                if select.select([death], [], [], 0)[0]:
                    client.kill()
                    return
            finally:
                os.close(end)
                client.wait()
    finally:
        os.close(death)


def clear(daemon: Any) -> None:
    """Remove whatever there is, as a user would."""
    for name in daemon.ok("container", "ls", "-q").split():
        daemon.ctr("task", "rm", "-f", name)
        daemon.ok("container", "rm", name)
    for image in daemon.ok("image", "ls", "-q").split():
        daemon.ok("image", "rm", "--sync", image)
    for line in daemon.ok("leases", "ls").splitlines()[1:]:
        daemon.ok("leases", "rm", line.split()[0])
    for line in daemon.ok("content", "active").splitlines()[1:]:
        daemon.ctr("content", "rm", line.split()[0])
    daemon.ok("content", "prune", "references")


def left(daemon: Any, name: str) -> list[str]:
    """Return what is still there, by looking where it would be."""
    found: list[str] = daemon.ok("task", "ls").splitlines()[1:]
    found += daemon.ok("content", "ls", "-q").split()
    found += daemon.ok("snapshot", "ls").splitlines()[1:]
    root, state = daemon.folder / "root", daemon.folder / "state"
    found += [str(one) for one in (root / "io.containerd.content.v1.content/blobs").glob("*/*")]
    for snapshotter in root.glob("io.containerd.snapshotter.v1.*"):
        found += [str(one) for one in snapshotter.glob("snapshots/*")]
        found += [str(one) for one in snapshotter.glob("trash/*")]
    found += [str(one) for one in state.rglob(f"*{name}*")]
    found += [str(one) for one in (root / "owners").iterdir()][1:]
    scope = Scope(tag=name, own_mounts=False, kinds=frozenset({Kind.CGROUP, Kind.MOUNT}))
    return found + [str(item) for item in take(scope).values()]


def shims_end(daemon: Any, before: list[int]) -> None:
    """Wait for shims that were told to end; they send their last events first."""
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in before):
        assert time.monotonic() < until, "a shim lives on"
        time.sleep(0.01)  # their parent is whoever reaped the daemon: there is no pidfd to wait on


def reference(daemon: Any, archive: Path) -> dict[str, int]:
    log = daemon.folder / "trace"
    daemon.start(SAMPAN_TRACE_LOG=str(log))
    script(daemon, archive, unique_name("t"))
    daemon.stop()
    counts = Counter(log.read_text().split())
    return {name: times for name, times in counts.items() if name.startswith(FAMILIES)}


def test_killed_at_every_point(stopped: Any, archive: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    points = reference(stopped, archive)
    assert {"tasks.created", "tasks.deleted", "snapshots.committed", "gc.swept"} <= set(points)
    todo = [(name, times) for name, times in sorted(points.items()) for _ in range(ATTEMPTS)]
    chance.shuffle(todo)
    until = time.monotonic() + LONGEST_S
    for name, times in todo:
        if time.monotonic() > until:
            break
        point = f"{name}:{chance.randint(1, times)}"
        print(point)  # noqa: T201
        container = unique_name("t")
        try:
            stopped.start(SAMPAN_TRACE_KILL=point)
        except AssertionError:
            stopped.stop()  # the point lies in the start
        else:
            script(stopped, archive, container)
            stopped.kill()
        stopped.start()
        shims = stopped.shims()
        clear(stopped)
        shims_end(stopped, shims)
        assert left(stopped, container) == [], f"{point}: {stopped.log.read_text()[-2000:]}"
        stopped.stop()
