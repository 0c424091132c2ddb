"""What all rows share: folders, bundles, runtimes, an image, and the options of this run."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sampan.testing import SESSION, Bundle, Runtime, build_busybox_rootfs, missing
from sampan.testing.runtimes import ENTRIES

RUNTIMES = ("sampan-oci", "runc", "crun")
_ENTRY = {"sampan-oci": "sampan-exec"}


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    quick: bool = False
    rounds: int = 0
    """0 is each row's own number."""

    def count(self, usual: int, quick: int = 0) -> int:
        """Return how many rounds to make of a row."""
        return self.rounds or (quick or max(3, usual // 4) if self.quick else usual)


class Stage:
    """Bundles and runtimes in a folder of their own; `close` removes them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        # Other people's runs on this machine must not move our protected interpreter.
        os.environ["SAMPAN_STATE"] = str(state_folder())
        self.rootfs = build_busybox_rootfs(SESSION.folder / "rootfs")
        self.refused: dict[str, str] = {}
        """Peers that are not measured, and why."""
        self.runtimes = {name: self.runtime(name) for name in RUNTIMES if self._works(name)}

    def runtime(self, name: str) -> Runtime:
        return Runtime(name, ENTRIES[_ENTRY.get(name, name)](), state_folder())

    def _works(self, name: str) -> bool:
        """Tell whether a runtime is here and can run a container on this machine at all."""
        if not name.startswith("sampan") and missing(name):
            self.refused[name] = "not installed"
            return False
        runtime = self.runtime(name)
        try:
            result = runtime.run(self.bundle(), "true")
        finally:
            runtime.close()
        if result.returncode:
            self.refused[name] = (result.stderr.strip().splitlines() or ["failed"])[-1]
        return result.returncode == 0

    def bundle(self) -> Bundle:
        """Return a new bundle over the common busybox."""
        bundle = Bundle(SESSION.new_folder(), SESSION.unique_name("bench"))
        bundle.config["root"]["path"] = str(self.rootfs)
        return bundle

    def close(self) -> None:
        """End what is left, and remove the folder."""
        for runtime in self.runtimes.values():
            runtime.close()
        reap()
        unmount_below(SESSION.folder)
        SESSION.close()


def state_folder() -> Path:
    """Return a new folder on a tmpfs, as /run is one: state of runtimes, daemons and shims."""
    top = SESSION.folder / "run"
    if not top.is_dir():
        top.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", str(top)], check=True)
    return Path(tempfile.mkdtemp(prefix="", dir=top))


def reap() -> None:
    """Take the orphans that have ended: we are their subreaper."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def unmount_below(folder: Path) -> None:
    """Take away what a daemon or shim that was killed has left in our own mount namespace."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False)
