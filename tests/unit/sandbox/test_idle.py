"""The program that waits, run by this kernel; and by an emulator if one is here."""

import os
import shutil
import signal
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from sampan.errors import Unimplemented
from sampan.sandbox.idle import elf, ensure


def _alive(process: "subprocess.Popen[bytes]") -> bool:
    """It waits in its loop when it blocks SIGTERM: then a signal is an answer, not a death."""
    for _ in range(1000):
        status = Path(f"/proc/{process.pid}/status").read_text()
        if f"SigBlk:\t{'f' * 4}" in status:
            return True
        os.sched_yield()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_waits_and_ends_when_told(tmp_path: Path, number: int) -> None:
    path = ensure(tmp_path)
    assert ensure(tmp_path) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o555
    process = subprocess.Popen([str(path)])
    assert _alive(process)
    process.send_signal(signal.SIGUSR1)
    process.send_signal(number)
    assert process.wait(10) == 128 + number


def test_it_is_what_it_says() -> None:
    for machine, number in (("x86_64", 62), ("aarch64", 183)):
        program = elf(machine)
        assert len(program) < 300
        assert program[:4] == b"\x7fELF"
        assert struct.unpack_from("<HH", program, 16) == (2, number)
    with pytest.raises(Unimplemented, match="m68k"):
        elf("m68k")


def test_the_other_machines(tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("needs qemu-aarch64")
    path = tmp_path / "init"
    path.write_bytes(elf("aarch64"))
    path.chmod(0o755)
    process = subprocess.Popen([emulator, str(path)])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    assert process.wait(10) == 143
