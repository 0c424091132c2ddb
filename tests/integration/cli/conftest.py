"""The real program, with a root and a state of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sampan.testing import require
from sampan.testing.networks import private_host

TIMEOUT_S = 60


@dataclass
class Result:
    status: int
    stdout: str
    stderr: str

    def ok(self) -> str:
        """Return what was printed, having checked that all went well."""
        assert self.status == 0, self
        return self.stdout


@dataclass
class Sampan:
    """`sampan` as somebody types it. Everything it makes is removed at the end of the test."""

    root: Path
    state: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        program = [sys.executable, "-m", "sampan.cli.main"]
        return [*program, "--root", str(self.root), "--state", str(self.state)]

    @property
    def environment(self) -> dict[str, str]:
        plain = {key: value for key, value in os.environ.items() if not key.startswith("SAMPAN_")}
        return {**plain, **self.environ}

    def __call__(self, *args: str, stdin: bytes | None = None) -> Result:
        done = subprocess.run(
            [*self.argv, *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=TIMEOUT_S,
            env=self.environment,
        )
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def start(self, *args: str, **more: object) -> "subprocess.Popen[bytes]":
        options: dict[str, object] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": self.environment,
        }
        options.update(more)
        return subprocess.Popen([*self.argv, *args], **options)  # type: ignore[call-overload,no-any-return]

    def containers(self) -> list[str]:
        return self("ps", "-aq", "--no-trunc").ok().split()

    def close(self) -> None:
        for one in self.containers():
            self("rm", "-f", one).ok()


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    """A host's network of one's own, so that bridges and rules are made where nobody else is."""
    require("root")
    with private_host():
        yield


@pytest.fixture
def sampan(root: Path, state: Path, own_network: None) -> Iterator[Sampan]:
    program = Sampan(root, state)
    yield program
    program.close()


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker archive of a small image of this host's programs."""
    require("root")
    folder = tmp_path_factory.mktemp("small")
    program = Sampan(folder / "root", folder / "state")
    paths = ("sh", "ls", "cat", "sleep", "id")
    program("image", "from-host", "t/small:1", *paths, "--cmd", "sh -c 'echo default'").ok()
    program("save", "-o", str(folder / "small.tar"), "t/small:1").ok()
    return folder / "small.tar"


@pytest.fixture
def small(sampan: Sampan, small_archive: Path) -> str:
    """The name of that image, loaded."""
    sampan("load", "-i", str(small_archive)).ok()
    return "t/small:1"


@pytest.fixture
def line_of() -> Callable[["subprocess.Popen[bytes]"], str]:
    """Read one line of a program's output; pytest's own timeout ends a wait for ever."""

    def read(program: "subprocess.Popen[bytes]") -> str:
        assert program.stdout is not None
        return program.stdout.readline().decode()

    return read
