"""The library: a sandbox from nothing to its first output, and a program in it, beside podman."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import sampan
from bench.measure import Figures, Interleaved, Row
from bench.stage import Stage

_IMAGE = "localhost/sampan-bench:1"
_BAR = 0.2
# Its defaults raise limits, which needs CAP_SYS_RESOURCE.
_MODEST = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]


def rows(stage: Stage) -> Iterator[Row]:
    """Measure; without podman ours stand alone."""
    rounds = stage.options.rounds or (5 if stage.options.quick else 20)
    with TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        top = Path(folder)
        with sampan.in_process(root=top / "root", state=top / "state") as client:
            podman = _podman(top)
            programs = {"sampan": lambda: _ours(client)}
            if podman:
                programs["podman"] = lambda: _theirs(podman)
            found = Interleaved(programs, rounds).run()
            if podman:
                # Its storage leaves mounts behind.
                subprocess.run([*podman, "system", "reset", "-f"], capture_output=True)
    for figure, name in (
        ("start", "Sandbox: start to first output"),
        ("exec", "Sandbox: run a program"),
        ("fork", "Sandbox: fork a running one"),
    ):
        taken = found.taken(figure)
        limit = 50.0 if figure == "fork" else None
        bar = None if figure == "fork" else _BAR
        yield Row(name, "ms", "sampan", "podman", taken, bar=bar, limit=limit)


def _ours(client: sampan.Client) -> Figures:
    begun = time.perf_counter()
    with client.sandbox("host:") as box:
        box.run("echo", "x", check=True)
        first = time.perf_counter()
        box.run("echo", "x", check=True)
        second = time.perf_counter()
        child = box.fork()
        forked = time.perf_counter()
        child.close()
    return {
        "start": (first - begun) * 1e3,
        "exec": (second - first) * 1e3,
        "fork": (forked - second) * 1e3,
    }


def _podman(top: Path) -> list[str]:
    """Return podman's command line, with its own storage and a small image; empty if it cannot."""
    if shutil.which("podman") is None or shutil.which("busybox") is None:
        return []
    folders = ["--root", str(top / "podman"), "--runroot", str(top / "podman-run")]
    command = ["podman", *folders, "--cgroup-manager", "cgroupfs", "--runtime", "runc"]
    rootfs = top / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    shutil.copy(str(shutil.which("busybox")), rootfs / "bin/busybox")
    for line in subprocess.run(
        ["ldd", str(shutil.which("busybox"))], capture_output=True, text=True
    ).stdout.split():
        if line.startswith("/"):
            target = rootfs / line.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(line, target)
    for name in ("sh", "echo", "sleep"):
        (rootfs / "bin" / name).symlink_to("busybox")
    tar = subprocess.run(["tar", "-C", str(rootfs), "-c", "."], capture_output=True)
    done = subprocess.run([*command, "import", "-", _IMAGE], input=tar.stdout, capture_output=True)
    return command if done.returncode == 0 else []


def _theirs(command: list[str]) -> Figures:
    begun = time.perf_counter()
    run = [*command, "run", "--rm", *_MODEST, _IMAGE, "echo", "x"]
    subprocess.run(run, check=True, capture_output=True)
    first = time.perf_counter()
    start = [*command, "run", "-d", *_MODEST, _IMAGE, "sleep", "60"]
    id_ = subprocess.run(start, check=True, capture_output=True, text=True).stdout.strip()
    before = time.perf_counter()
    subprocess.run([*command, "exec", id_, "echo", "x"], check=True, capture_output=True)
    after = time.perf_counter()
    subprocess.run([*command, "rm", "-f", "-t", "0", id_], check=True, capture_output=True)
    return {"start": (first - begun) * 1e3, "exec": (after - before) * 1e3}
