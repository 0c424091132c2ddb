"""This run of pytest: its tag, its folder, and what it must do to judge leaks of its own alone.

/tmp/s<tag>/            0711; short, since AF_UNIX paths end at 107 bytes
    rootfs-<name>/      built once a session
    <n>/                one a test: root, state, bundles
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from sampan.linux.exe import ensure_mounted

__all__ = ["SESSION", "Session", "unique_name"]

_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


class Session:
    """One pytest process. `tag` is in the name of whatever its tests make outside `folder`."""

    def __init__(self) -> None:
        self.tag = f"{os.getpid():x}t"
        self.alone = os.environ.get("SAMPAN_TEST_ALONE") == "1"
        """Nobody else uses the machine: all that is new is ours."""
        self.own_mounts = False
        """We have a mount namespace of our own: every mount in it is ours."""
        self._folder: Path | None = None
        self._numbers = itertools.count(1)

    @property
    def folder(self) -> Path:
        """The folder of this session, made on first use, removed by `close`."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"s{self.tag}", dir="/tmp"))
            self._folder.chmod(0o711)
        return self._folder

    def unique_name(self, prefix: str = "c") -> str:
        """Return a new name for a container, cgroup or file: `<prefix>-<tag>-<n>`."""
        return f"{prefix}-{self.tag}-{next(self._numbers)}"

    def new_folder(self) -> Path:
        """Make a new folder below `folder`; the caller removes it."""
        path = self.folder / str(next(self._numbers))
        path.mkdir(mode=0o711)
        return path

    def isolate(self) -> None:
        """Become a subreaper; as root, leave for a private mount namespace.

        Orphans then stay below us, and other people's mounts neither show nor are disturbed.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        if os.geteuid() == 0 and libc.unshare(_CLONE_NEWNS) == 0:
            if libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None):
                raise OSError(ctypes.get_errno(), "mount / private")
            self.own_mounts = True
            # sampan-oci mounts its interpreter once for all time: no leak of the first test.
            os.makedirs("/run/sampan", 0o711, exist_ok=True)
            ensure_mounted("/run/sampan")
            from sampan.testing.runtimes import sampan_oci

            # ... and its launcher notes where, at its first start in this checkout.
            subprocess.run([*sampan_oci(), "--version"], check=True, capture_output=True)

    def close(self) -> None:
        """Remove the folder. Fails loudly where something is still mounted in it."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None


SESSION = Session()


def unique_name(prefix: str = "c") -> str:
    """Return a name that no other test has, and that tells the leak fixtures whose it is."""
    return SESSION.unique_name(prefix)
