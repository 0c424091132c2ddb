"""The keeper: what it is when nothing happens, and whose death is whose."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

from sampan.errors import Unavailable
from sampan.linux.process import pidfd_wait
from sampan.shim import keeper
from sampan.testing import requires

pytestmark = requires("root", "busybox")

NewShim = Callable[..., Untyped]


def servers(shim: Untyped) -> list[int]:
    """Return the servers of a keeper: one, or none while it rests."""
    children = Path(f"/proc/{shim.pid}/task/{shim.pid}/children").read_text().split()
    found = []
    for child in children:
        try:
            if Path(f"/proc/{child}/comm").read_text() == "sampan-shim\n":
                found.append(int(child))
        except OSError:
            continue
    return found


def test_a_record_says_who_how_and_when() -> None:
    record = keeper.RECORD.pack(7, 137, 1 << 60)
    assert list(keeper.RECORD.iter_unpack(record * 2)) == [(7, 137, 1 << 60)] * 2


def test_a_killed_keeper_takes_its_server_with_it(new_shim: NewShim, folder: Path) -> None:
    shim = new_shim("forked", folder, "sleep", "1000")
    init = os.pidfd_open(shim.create().pid)
    shim.call("Start", id="c1")  # until then init has the shim's name
    found = []
    for pid in servers(shim):
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(pid))
    os.kill(shim.pid, signal.SIGKILL)
    for pidfd in (*found, shim.pidfd):
        assert pidfd_wait(pidfd, 10)
    signal.pidfd_send_signal(init, signal.SIGKILL)
    assert pidfd_wait(init, 10)
    for pidfd in (init, *found):
        os.close(pidfd)
    clean_up(shim)


def test_orphans_by_the_thousand_wake_it_and_are_reaped(new_shim: NewShim, folder: Path) -> None:
    """Without a pid namespace every orphan of the container is the keeper's."""
    words = "i=0; while [ $i -lt 3000 ]; do (sleep 0 &) ; i=$((i+1)); done; exit 4"
    shim = new_shim("forked", folder, "sh", "-c", words)
    spec = json.loads((shim.bundle / "config.json").read_text())
    kept = [each for each in spec["linux"]["namespaces"] if each["type"] != "pid"]
    spec["linux"]["namespaces"] = kept
    spec["mounts"] = []
    (shim.bundle / "config.json").write_text(json.dumps(spec))
    try:
        shim.create()
        shim.call("Start", id="c1")
        shim.call("State", id="c1")
        assert shim.call("Wait", id="c1").exit_status == 4
        until_s = time.monotonic() + 10
        children = Path(f"/proc/{shim.pid}/task/{shim.pid}/children")
        while len(children.read_text().split()) > 1:
            assert time.monotonic() < until_s, "orphans are left"
            select.select([], [], [], 0.01)
    finally:
        shim.close()


def clean_up(shim: Untyped) -> None:
    """Do what `delete` of the executable does behind a dead shim."""
    (shim.bundle / "address").write_text(f"unix://{shim.address}")
    arguments = ["-namespace", "t", "-id", "c1", "-bundle", str(shim.bundle), "delete"]
    program = [sys.executable, "-m", "sampan.shim.main"]
    subprocess.run([*program, *arguments], capture_output=True, timeout=30, check=True)
    shim.close()
    assert not os.path.lexists(shim.address)


def test_a_server_that_dies_takes_the_shim_with_it(new_shim: NewShim, folder: Path) -> None:
    shim = new_shim("forked", folder, "sleep", "1000")
    init = os.pidfd_open(shim.create().pid)
    shim.call("Start", id="c1")  # until then init has the shim's name
    until_s = time.monotonic() + 10
    while not pidfd_wait(shim.pidfd, 0.1):
        assert time.monotonic() < until_s
        for server in servers(shim):  # it may have gone to rest: then another is woken
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)
        with contextlib.suppress(Unavailable):
            shim.call("Connect", id="c1")
    signal.pidfd_send_signal(init, signal.SIGKILL)
    assert pidfd_wait(init, 10)
    os.close(init)
    clean_up(shim)


def test_a_resting_shim_is_small(new_shim: NewShim, folder: Path) -> None:
    """Its bar is for 105 of them, in `bench`; a page table more says that something is broken."""
    shim = new_shim("forked", folder, "sleep", "1000")
    try:
        shim.create()
        shim.call("Start", id="c1")
        shim.rest()
        text = Path(f"/proc/{shim.pid}/smaps_rollup").read_text()
        rows = {row.split()[0]: row.split()[1] for row in text.splitlines()[1:]}
        assert int(rows["Private_Dirty:"]) < 2048
    finally:
        shim.close()
