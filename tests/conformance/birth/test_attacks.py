"""Rows 1 and 2 of the table of vulnerabilities: a container attacks what comes into it by exec."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sampan
from sampan.linux import exe
from sampan.testing import Bundle, Runtime, attacker, requires
from sampan.testing.bundle import DEFAULT_CAPABILITIES
from sampan.testing.runtimes import ExecEntry, ForkEntry, sampan_oci

pytestmark = requires("root", "busybox")

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
EXECS = 1000 if SOAK else 40
OURS = ("sampan-exec", "sampan-fork")
STRONG = [*DEFAULT_CAPABILITIES, "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"]


class Attack:
    """A running container whose init attacks; its own interpreter is a copy in its rootfs."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.rootfs = bundle.rootfs
        bundle.bind_host_programs()
        shutil.copy(os.path.realpath(sys.executable), bundle.rootfs / "python")
        shutil.copy(attacker.__file__, bundle.rootfs / "attacker.py")
        sets = dict.fromkeys(("bounding", "effective", "permitted"), STRONG)
        args = ("/python", "-I", "-S", "/attacker.py")
        self.id = runtime.create(bundle, *args, capabilities=sets)
        runtime.start(self.id)
        self.wait_for_file("ready")

    def wait_for_file(self, name: str, timeout_s: float = 60) -> Path:
        path = self.rootfs / "tmp" / name
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            assert time.monotonic() < deadline, f"the attacker made no {name}"
            select.select([], [], [], 0.005)
        return path

    def report(self) -> dict[str, Any]:
        forked = isinstance(self.runtime.entry, ForkEntry)
        if forked:
            self.runtime.entry.close()  # the zygote runs the interpreter, too
        (self.rootfs / "tmp/stop").touch()
        assert self.runtime.wait(self.id, 120) == 0
        if forked:
            self.runtime.entry = ForkEntry()
        report: dict[str, Any] = json.loads((self.rootfs / "tmp/report").read_bytes())
        return report


def identity(path: str | Path) -> str:
    status = os.stat(path)
    return f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}:{status.st_ino}"


@pytest.fixture
def python(tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter of the test's own, in an environment with `sampan-oci` beside it.

    While any process runs an executable, opening it for writing fails with ETXTBSY; and pytest
    itself runs the usual one. The runtime under test runs this one, which has ended by the end.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = tmp_path / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    source = Path(sampan.__file__).parents[1]
    (packages / "sampan.pth").write_text(f"{source}\n")
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin" / "python3"
    real = os.path.realpath(sys.executable)
    shutil.copy(real, copy)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {Path(real).parent}\n")
    shutil.copy(source / "sampan/oci/launcher.sh", tmp_path / "bin" / "sampan-oci")
    monkeypatch.setattr(sys, "executable", str(copy))
    monkeypatch.setenv("SAMPAN_STATE", str(short_path))
    yield copy
    exe.remove_mounted(str(short_path))


def made_by(python: Path, make_runtime: Callable[[str], Runtime], name: str) -> Runtime:
    """Return the runtime `name`, run by the interpreter `python`."""
    runtime = make_runtime(name)
    if name == "sampan-exec":
        runtime.entry = ExecEntry(str(python.with_name("sampan-oci")))
    return runtime


ENTERED = ["sampan-exec", "sampan-fork"]


@pytest.mark.parametrize("name", ENTERED)
def test_nothing_of_the_host_is_seen_during_execs(
    name: str, python: Path, make_runtime: Callable[[str], Runtime], bundle: Bundle
) -> None:
    """Neither an executable to overwrite, nor a fd to take, nor a folder to walk out of."""
    attack = Attack(made_by(python, make_runtime, name), bundle)
    for _ in range(EXECS):
        attack.runtime.exec(attack.id, "sh", "-c", "exit 0")
    report = attack.report()
    interpreter = identity(python)
    written = {key for key, result in report["executables"].items() if result == "WRITABLE"}
    assert written == set(), "an executable of the host could be written"
    early = [fd.split()[2] for fd in report["fds"] if fd.startswith(f"{interpreter} ")]
    own = {os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    assert own.isdisjoint(early), "a namespace of the host could be joined"
    harmless = re.compile(r"/tmp/#\d+|/etc/(passwd|group)")  # stdio; the container's own accounts
    assert [p for p in early if p.startswith("/") and not harmless.fullmatch(p)] == []
    assert any(exe != interpreter for exe in report["executables"]), "it saw no exec at all"
    assert report["rounds"] > EXECS


@pytest.mark.parametrize("name", ENTERED)
def test_the_interpreter_cannot_be_written_by_making_it_run_inside(
    name: str, python: Path, make_runtime: Callable[[str], Runtime], bundle: Bundle
) -> None:
    """CVE-2019-5736 as it was: exec of /proc/self/exe runs the runtime's own binary, dumpable."""
    attack = Attack(made_by(python, make_runtime, name), bundle)
    for _ in range(EXECS):
        attack.runtime.exec(attack.id, "/proc/self/exe", "-c", "import time; time.sleep(0.02)")
    report = attack.report()
    written = {key for key, result in report["executables"].items() if result == "WRITABLE"}
    assert written == set(), "the interpreter could be written"


def test_the_attack_works_on_the_unprotected(
    make_runtime: Callable[[str], Runtime], bundle: Bundle, tmp_path: Path
) -> None:
    """The control: a plain program of the host enters the container with an open folder."""
    attack = Attack(make_runtime("runc"), bundle)
    copy = tmp_path / "busybox"
    shutil.copy("/bin/busybox", copy)
    pid = attack.runtime.pid(attack.id)
    held = os.open("/etc", os.O_RDONLY)
    try:
        entered = ("nsenter", "-t", str(pid), "-p", "--", str(copy), "sleep", "0.5")
        subprocess.run(entered, pass_fds=(held,), check=True)
    finally:
        os.close(held)
    report = attack.report()
    assert report["executables"][identity(copy)] == "WRITABLE"
    assert f"{identity(copy)} {held} /etc taken" in report["fds"]


@pytest.mark.parametrize("name", OURS)
def test_no_fd_of_the_runtime_is_a_working_folder(
    name: str, make_runtime: Callable[[str], Runtime], bundle: Bundle
) -> None:
    """CVE-2024-21626: cwd is `/proc/self/fd/N` for a folder of the host that was left open."""
    runtime = make_runtime(name)
    last = 255 if SOAK else 24
    for number in range(3, last + 1):
        result = runtime.run(bundle, "readlink", "/proc/self/cwd", cwd=f"/proc/self/fd/{number}")
        assert result.returncode != 0, f"fd {number}: {result.stdout}"
    container = runtime.create(bundle, "sleep", "1000")
    runtime.start(container)
    for number in range(3, last + 1):
        flags = ("--cwd", f"/proc/self/fd/{number}")
        result = runtime.exec(container, "readlink", "/proc/self/cwd", flags=flags)
        assert result.returncode != 0, f"fd {number}: {result.stdout}"


@requires("strace")
def test_nothing_is_loaded_between_birth_and_execve(
    make_runtime: Callable[[str], Runtime], bundle: Bundle, tmp_path: Path
) -> None:
    """Every import opens a file: the kernel's word for `sys.modules` unchanged."""
    runtime = make_runtime("sampan-exec")
    log = tmp_path / "log"
    runtime.entry = ExecEntry(
        "strace",
        "-ff",
        "-o",
        str(log),
        "-e",
        "trace=open,openat,openat2,execve,execveat",
        *sampan_oci(),
    )
    assert runtime.run(bundle, "/bin/busybox", "echo", "born").stdout == "born\n"
    births = [
        path.read_text() for path in tmp_path.iterdir() if '"echo", "born"]' in path.read_text()
    ]
    assert len(births) == 1, sorted(path.read_text()[-300:] for path in tmp_path.iterdir())
    before = re.split(r"^execve", births[0], flags=re.MULTILINE)[0]
    assert "/proc" in before or "/dev" in before, "the trace shows no set-up: it is not the child's"
    loaded = re.findall(r'"([^"]+\.(?:py|pyc|so|pth|mo)[\d.]*)"', before)
    assert loaded == []
