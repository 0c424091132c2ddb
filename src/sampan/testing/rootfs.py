"""Small root file systems made from programs of the host, as no image can be had from outside.

build_busybox_rootfs(path)              Debian's dynamic busybox, its libraries, its applets
build_rootfs(path, "/usr/bin/strace")   any programs, with what they are linked with
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from sampan.testing.requirements import require

__all__ = ["build_busybox_rootfs", "build_rootfs", "closure", "copy_rootfs"]

_FOLDERS = (
    "bin",
    "dev",
    "etc",
    "home",
    "lib",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr/bin",
)
_ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/sh\n"
_GROUP = "root:x:0:\nvideo:x:44:nobody\nnogroup:x:65534:\n"


def closure(*programs: str) -> list[Path]:
    """Return the real files that `programs` need to run: themselves, their interpreter, libraries.

    Raises:
      FileNotFoundError: a library that a program asks for is not on this machine.
    """
    found: dict[Path, None] = {}
    for program in programs:
        found[Path(program)] = None
        listed = subprocess.run(
            ["ldd", program], check=False, capture_output=True, text=True, timeout=20
        )
        if "not found" in listed.stdout:
            raise FileNotFoundError(f"{program}: {listed.stdout}")
        for path in re.findall(r"(/\S+) \(0x", listed.stdout):
            found[Path(path)] = None
    return list(found)


def build_rootfs(path: Path, *programs: str) -> Path:
    """Fill the new folder `path` with folders, accounts, and the closure of `programs`."""
    for name in _FOLDERS:
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "tmp").chmod(0o1777)
    (path / "root").chmod(0o700)
    (path / "etc/passwd").write_text(_ACCOUNTS)
    (path / "etc/group").write_text(_GROUP)
    for source in closure(*programs):
        target = path / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    return path


def build_busybox_rootfs(path: Path) -> Path:
    """Fill the new folder `path` with busybox and a link for each applet. Skips without busybox."""
    require("busybox")
    build_rootfs(path)
    program = shutil.which("busybox") or "/bin/busybox"
    for source in closure(program):
        target = path / ("bin/busybox" if str(source) == program else str(source)[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    listed = subprocess.run([program, "--list-full"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        link = path / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(link):
            link.symlink_to("/bin/busybox")
    # Scripts and config.json of tests say /bin/sh, wherever this busybox keeps it.
    for name in (
        "sh",
        "cat",
        "head",
        "ls",
        "sleep",
        "true",
        "id",
        "mount",
        "env",
        "stat",
        "readlink",
    ):
        if not os.path.lexists(path / "bin" / name):
            (path / "bin" / name).symlink_to("/bin/busybox")
    return path


def copy_rootfs(source: Path, target: Path) -> Path:
    """Copy a rootfs with owners, modes and links; tests may do to the copy what they want."""
    shutil.copytree(source, target, symlinks=True)
    return target
