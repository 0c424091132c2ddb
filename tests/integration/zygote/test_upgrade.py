"""An upgrade replaces every file of the package under a running shim: it never notices."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sampan
from sampan.errors import InvalidArgument
from sampan.testing import Bundle, requires
from sampan.testing.shims import PRELOAD, Shims
from sampan.zygote import Zygote

pytestmark = requires("root", "busybox")

POISON = "raise SystemError('a file of the new version was loaded')\n"


def poison(package: Path) -> int:
    """Replace every source file, as an installer does, and drop compiled ones."""
    count = 0
    for path in list(package.rglob("*.py")):
        new = path.with_suffix(".new")
        new.write_text(POISON)
        new.replace(path)
        count += 1
    for folder in list(package.rglob("__pycache__")):
        shutil.rmtree(folder)
    return count


def test_a_shim_outlives_an_upgrade(short_path: Path, make_bundle: Callable[[], Bundle]) -> None:
    old = short_path / "old"
    ours = Path(sampan.__file__).parent
    shutil.copytree(ours, old / "sampan", ignore=shutil.ignore_patterns("__pycache__", "api"))
    path = [str(old), *(each for each in sys.path if Path(each or ".") != ours.parent)]
    running, waiting, late = make_bundle(), make_bundle(), make_bundle()
    with Zygote.start(PRELOAD, path=path) as zygote, Shims("fork", short_path, zygote) as shims:
        shim, other, unused = (shims.start(each) for each in (running, waiting, late))
        shim.launch(running, "sleep", "1000", resources={"pids": {"limit": 50}})
        other.create(waiting, "sh", "-c", "exit 5")
        assert poison(old / "sampan") > 100
        with pytest.raises(InvalidArgument, match="a file of the new version"):
            zygote.preload(["sampan.testing.certificate"])
        for _ in range(2):
            assert shim.run(running.id, "echo", "in") == (0, "in\n")
        shim.call("Pause", id=running.id)
        shim.call("Resume", id=running.id)
        assert shim.call("Stats", id=running.id).stats is not None
        assert shim.call("Pids", id=running.id).processes
        shim.kill(running.id, 15)
        shim.kill(running.id)
        assert shim.wait(running.id).exit_status == 137
        assert shim.delete(running.id).exit_status == 137
        other.start(waiting.id)
        assert other.wait(waiting.id).exit_status == 5
        other.delete(waiting.id)
        unused.launch(late, "sh", "-c", "exit 6")
        assert unused.wait(late.id).exit_status == 6
        unused.delete(late.id)
