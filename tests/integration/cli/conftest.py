"""`sampan` as a program, in a root of its own that is emptied afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


class Cli:
    """The program, with private folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.state = folder / "root", folder / "state"
        self.env = {
            **os.environ,
            "SAMPAN_ROOT": str(self.root),
            "SAMPAN_STATE": str(self.state),
            "SAMPAN_CONFIG": "",
            "SAMPAN_DEBUG": "",
            "DOCKER_CONFIG": str(folder),
        }

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sampan.cli.main", *words]

    def __call__(
        self, *words: str, input: bytes = b"", timeout: float = 60, **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(*words),
            env={**self.env, **env},
            input=input,
            capture_output=True,
            timeout=timeout,
        )

    def ok(self, *words: str, input: bytes = b"") -> str:
        done = self(*words, input=input)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture
def sampan() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="sampan-cli-") as name:
        cli = Cli(Path(name))
        yield cli
        ids = cli("ps", "-aq").stdout.decode().split()
        if ids:
            cli("rm", "-f", *ids)
        left = Path("/proc/self/mountinfo").read_text()
        assert name not in left, "mounts are left"
        tasks = cli.state / "io.containerd.runtime.v2.task" / "default"
        assert not tasks.exists() or not os.listdir(tasks), "bundles are left"
