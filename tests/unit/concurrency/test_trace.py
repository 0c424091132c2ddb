from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from sampan.concurrency.trace import trace
for _ in range(3):
    trace("a"); trace("b")
    print("passed", flush=True)
assert "asyncio" not in sys.modules
"""


def start(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=False
    )


def test_kills_at_the_count() -> None:
    assert start().stdout.count("passed") == 3
    killed = start(SAMPAN_TRACE_KILL="b:2")
    assert (killed.returncode, killed.stdout.count("passed")) == (-9, 1)
    assert start(SAMPAN_TRACE_KILL="a").stdout == ""
    assert start(SAMPAN_TRACE_KILL="c").returncode == 0


def test_logs_names(tmp_path: Path) -> None:
    start(SAMPAN_TRACE_LOG=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().split() == ["a", "b"] * 3
