"""A client with a root of its own, and a look at what is left of it."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sampan.sandbox.clients import Client, in_process
from sampan.testing import require


@pytest.fixture
async def client(root: Path, state: Path) -> AsyncIterator[Client]:
    require("root")
    async with in_process(root=root, state=state) as opened:
        yield opened


@pytest.fixture
def left(root: Path, state: Path) -> Callable[[], list[str]]:
    """What belongs to sandboxes and lies on disk or is mounted; empty if nothing does."""

    def look() -> list[str]:
        containers = root / "containers"
        # One that was killed between name and folder leaves a name for some seconds.
        names = [path for path in containers.glob("*/names/*") if _used(path)]
        found = [f"name {path}" for path in names]
        found += [f"folder {path}" for path in containers.glob("*/[0-9a-f]*")]
        found += [f"snapshot {path}" for path in root.glob("**/snapshots/*") if path.name.isdigit()]
        found += [f"task {path}" for path in state.glob("io.containerd.runtime.v2.task/*/*")]
        found += [f"socket {path}" for path in state.glob("s/*")]
        found += [f"oci state {path}" for path in state.glob("oci/*/[0-9a-f]*")]
        with open("/proc/self/mountinfo") as file:
            found += [f"mount {line}" for line in file if str(state) in line]
        return found

    return look


def _used(name: Path) -> bool:
    return (name.parent.parent / name.read_text()).exists()


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a small image of this host's programs."""
    require("root")
    folder = tmp_path_factory.mktemp("small")
    program = [sys.executable, "-m", "sampan.cli.main"]
    program += ["--root", str(folder / "root"), "--state", str(folder / "state")]
    made = ["image", "from-host", "t/small:1", "sh", "ls", "cat", "sleep", "id", "rm", "touch"]
    subprocess.run([*program, *made], check=True, capture_output=True, timeout=120)
    archive = folder / "small.tar"
    subprocess.run([*program, "save", "-o", str(archive), "t/small:1"], check=True, timeout=120)
    return archive
