"""Logs and counters read from outside."""

import asyncio
import json
from pathlib import Path

from sampan.model.opaque import Opaque
from sampan.rpc.messages import cgroups1, cgroups2
from sampan.sandbox.following import follow, read_log, stats_of


def line(text: str) -> str:
    return json.dumps({"log": text, "stream": "stdout", "time": "x"}) + "\n"


def test_rotated_logs_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    Path(f"{path}.1").write_text(line("one\n"))
    path.write_text(line("two \udcff\n") + '{"torn')
    assert read_log(path) == b"one\ntwo \xff\n"
    assert read_log(tmp_path / "none") == b""


async def test_following_ends_with_the_task(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(line("a\n"))
    ended = asyncio.get_running_loop().create_task(asyncio.sleep(0.1))
    found = []
    async for data in follow(path, ended):
        found.append(data)
        if len(found) == 1:
            with path.open("a") as file:
                file.write(line("b\n"))
    assert b"".join(found) == b"a\nb\n"


def test_both_versions_of_cgroups() -> None:
    two = cgroups2.Metrics(memory=cgroups2.MemoryStat(usage=5, usage_limit=1 << 62))
    seen = stats_of(Opaque("io.containerd.cgroups.v2.Metrics", bytes(two)))
    assert (seen.memory_bytes, seen.memory_limit_bytes) == (5, 0)
    one = cgroups1.Metrics(pids=cgroups1.PidsStat(current=3))
    assert stats_of(Opaque("io.containerd.cgroups.v1.Metrics", bytes(one))).pids == 3
