from __future__ import annotations
import random, time, os
from pathlib import Path
from typing import Any
from tests.integration.daemon.test_kills import *
from tests.integration.daemon import test_kills as tk
from tests.integration.daemon.test_kills import init, OPERATIONS, death, create, tasks, remove, run, signal, left_of
import pytest

def test_loop(daemon: Any, rootfs: Path) -> None:
    chance = random.Random()
    until = time.monotonic() + float(os.environ.get("LOOP_S", "60"))
    from sampan.testing import unique_name
    pairs = [(v, o) for v in os.environ.get("VICTIMS", "daemon,zygote,shim").split(",") for o in OPERATIONS]
    n = 0
    while time.monotonic() < until:
        victim, operation = chance.choice(pairs)
        name = unique_name("k")
        if operation is not create:
            create(daemon, rootfs, name)
        delay_s = chance.uniform(0.005, 0.12)
        with death(daemon, victim, name, delay_s):
            operation(daemon, rootfs, name)
        if victim == "daemon":
            daemon.stop(signal.SIGKILL)
            daemon.start()
        n += 1
        try:
            remove(daemon, name)
        except BaseException:
            print("FAILED AT", n, name, victim, operation.__name__, delay_s)
            for p in (daemon.folder/"state").rglob("*"):
                if name in str(p): print(p, p.lstat())
            print(daemon.log.read_text()[-2500:])
            raise
    print("rounds", n)
