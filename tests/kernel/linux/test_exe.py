"""The interpreter is the runtime binary: who holds /proc/PID/exe must not be able to write it."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from sampan.linux import exe, fds, paths, process
from sampan.testing import requires

WAIT = ["-I", "-S", "-c", "import signal; print('up', flush=True); signal.pause()"]


def held_exe_of(pid: int, pidfd: int, ready: int) -> int:
    """Return O_PATH on the program of `pid`, taken while it ran, after it has ended."""
    assert os.read(ready, 10) == b"up\n"
    held = os.open(f"/proc/{pid}/exe", os.O_PATH)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    os.close(ready)
    return held


def start(interpreter: exe.Interpreter) -> int:
    read_end, write_end = os.pipe()
    pid = interpreter.spawn(WAIT, [(os.POSIX_SPAWN_DUP2, write_end, 1)])
    os.close(write_end)
    return held_exe_of(pid, process.pidfd_open(pid), read_end)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """An interpreter that nobody else executes: writing to it fails for no other reason."""
    return Path(shutil.copy2(exe.interpreter_path(), tmp_path / "python3"))


def test_unprotected_copy_is_really_written(copy: Path) -> None:
    file = fds.OwnedFd(os.open(copy, os.O_PATH))
    with exe.Interpreter(file, sys.executable, "none") as interpreter:
        held = start(interpreter)
    with fds.OwnedFd(held):
        write_to(held)
    assert copy.read_bytes().startswith(b"#!/evil")


@requires("root", "kernel>=5.12")
def test_clone_cannot_be_written(copy: Path) -> None:
    before = copy.read_bytes()
    with exe.protected_clone(str(copy)) as interpreter:
        held = start(interpreter)
    with fds.OwnedFd(held), pytest.raises(OSError, match="Read-only file system"):
        paths.reopen(held, os.O_WRONLY)
    assert copy.read_bytes() == before


def test_sealed_copy_cannot_be_written() -> None:
    with exe.sealed_copy(exe.interpreter_path()) as interpreter:
        held = start(interpreter)
    with fds.OwnedFd(held), pytest.raises(PermissionError):
        write_to(held)


def write_to(held: int) -> None:
    with fds.OwnedFd(paths.reopen(held, os.O_RDWR)) as writable:
        os.write(writable.fd, b"#!/evil")


@pytest.mark.parametrize("kind", [exe.protected_interpreter, exe.sealed_copy])
def test_protected_interpreter_knows_and_finds_its_library(kind: object) -> None:
    source = str(Path(exe.__file__).parents[2])
    program = (
        f"import sys; sys.path.append({source!r});"
        "import json; from sampan.linux import exe; sys.exit(21 if exe.is_protected() else 1)"
    )
    assert callable(kind)
    with kind(exe.interpreter_path()) as interpreter:
        pid = interpreter.spawn(["-I", "-S", "-c", program])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 21


@requires("root", "kernel>=5.12")
def test_persistent_mount_is_made_once_and_read_only(copy: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    path = exe.ensure_mounted(state, str(copy))
    try:
        assert exe.ensure_mounted(state, str(copy)) == path
        assert os.stat(path).st_ino == copy.stat().st_ino
        with pytest.raises(OSError, match="Read-only file system"):
            os.open(path, os.O_WRONLY)
        pid = os.posix_spawn(path, [path, "-I", "-S", "-c", "import os; os._exit(11)"], {})
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11
    finally:
        exe.remove_mounted(state)
    assert not os.path.exists(f"{state}/exe")
