"""Where output goes: files, loggers, rotated logs, and fifos whose readers behave badly."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any as Untyped

from sampan.rpc.messages import sampan
from sampan.rpc.messages.wellknown import Empty
from sampan.testing import requires

NewShim = Callable[..., Untyped]
SIZE = (64 << 20) if os.environ.get("SAMPAN_SOAK") else (8 << 20)

pytestmark = requires("root", "busybox")


def run_to_its_end(shim: Untyped, **streams: str) -> int:
    shim.create(**streams)
    shim.call("Start", id="c1")
    status = int(shim.call("Wait", id="c1").exit_status)
    shim.call("Delete", id="c1")
    return status


def test_a_file_is_appended_to_by_both_streams(new_shim: NewShim, ours: str, folder: Path) -> None:
    out = folder / "with space"
    out.write_text("before\n")
    shim = new_shim(ours, folder, "sh", "-c", "echo out; echo err >&2")
    try:
        target = f"file://{folder}/with%20space"
        assert run_to_its_end(shim, stdout=target, stderr=target) == 0
    finally:
        shim.close()
    assert out.read_text().startswith("before\n")
    assert sorted(out.read_text().split()) == ["before", "err", "out"]


LOGGER = """
import os, sys
with open(sys.argv[2], "w") as file:
    file.write(repr([sys.argv[1:], os.environ["CONTAINER_ID"], os.environ["CONTAINER_NAMESPACE"]]))
    os.close(5)
    with os.fdopen(3) as out, os.fdopen(4) as err:
        file.write(out.read() + err.read())
"""


def test_a_binary_gets_both_streams_and_its_arguments(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    logger, out = folder / "logger", folder / "logged"
    logger.write_text(f"#!{sys.executable}\n{LOGGER}")
    logger.chmod(0o755)
    shim = new_shim(ours, folder, "sh", "-c", "echo out; echo err >&2")
    try:
        assert run_to_its_end(shim, stdout=f"binary://{logger}?key={out}") == 0
    finally:
        shim.close()  # waits for the logger, too
    assert out.read_text() == repr([["key", str(out)], "c1", "t"]) + "out\nerr\n"


def test_a_log_rotates_and_loses_nothing(new_shim: NewShim, ours: str, folder: Path) -> None:
    log = folder / "log"
    words = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done"
    shim = new_shim(ours, folder, "sh", "-c", words)
    try:
        target = f"sampan-log://{log}?format=json-file&max-size=4096&max-files=100"
        assert run_to_its_end(shim, stdout=target) == 0
    finally:
        shim.close()
    files = sorted(folder.glob("log*"), key=lambda path: -int(path.suffix[1:] or 0))
    assert len(files) > 5
    assert all(path.stat().st_size <= 4096 for path in files)
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert [row["log"] for row in rows] == [f"line {n}\n" for n in range(300)]


def test_a_renamed_log_is_reopened(new_shim: NewShim, ours: str, folder: Path) -> None:
    log = folder / "log"
    shim = new_shim(ours, folder, "sh", "-c", "echo one; read x; echo two")
    stdin = folder / "stdin"
    os.mkfifo(stdin)
    keep = os.open(stdin, os.O_RDWR)
    try:
        shim.create(stdin=str(stdin), stdout=f"sampan-log://{log}?format=cri")
        shim.call("Start", id="c1")
        while not (log.exists() and log.read_text()):
            shim.call("State", id="c1")
        log.rename(folder / "old")
        request = sampan.ReopenLogsRequest(id="c1")
        shim.client.call(sampan.SERVICE, "ReopenLogs", request, Empty, timeout_s=10)
        os.write(keep, b"\n")
        assert shim.call("Wait", id="c1").exit_status == 0
        shim.call("Delete", id="c1")
    finally:
        os.close(keep)
        shim.close()
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout F %s\n"
    assert re.fullmatch(line % "one", (folder / "old").read_text())
    assert re.fullmatch(line % "two", log.read_text())


# Bytes that tell their place, so that a lost, doubled or moved one is seen.
PATTERN = b"".join(b"%07d\n" % n for n in range(SIZE // 8))


def test_torture_with_stopped_vanished_and_late_readers(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "cat", "/pattern")
    (shim.bundle / "rootfs/pattern").write_bytes(PATTERN)
    fifo, got = folder / "stdout", folder / "got"
    os.mkfifo(fifo)
    took = bytearray()
    try:
        shim.create(stdout=str(fifo))
        shim.call("Start", id="c1")
        # Late: all fifos and pipes are full before anybody reads.
        first = os.open(fifo, os.O_RDONLY)
        while len(took) < SIZE // 4:
            took += os.read(first, 65536)
        os.close(first)  # vanished
        # Stopped: the shim answers while its reader does not read.
        with open(got, "wb") as file:
            reader = subprocess.Popen(
                ["dd", f"if={fifo}", "bs=65536", f"count={SIZE // 4 >> 16}", "iflag=fullblock"],
                stdout=file, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        reader.send_signal(signal.SIGSTOP)
        for _ in range(10):
            assert shim.call("State", id="c1").pid
        reader.send_signal(signal.SIGCONT)
        with reader:
            reader.wait(20)
        took += got.read_bytes()
        last = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        while select.select([last], [], [], 20)[0]:
            data = os.read(last, 1 << 20)
            if not data:
                break
            took += data
        os.close(last)
        assert shim.call("Wait", id="c1").exit_status == 0
    finally:
        shim.close()
    assert (len(took), bytes(took) == PATTERN) == (SIZE, True)


def test_yes_blocks_and_the_shim_stays_small_and_awake(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "yes")
    fifo = folder / "stdout"
    os.mkfifo(fifo)

    def private_kb() -> int:
        text = Path(f"/proc/{shim.pid}/smaps_rollup").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if "Private_Dirty" in line))

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{shim.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    try:
        pid = shim.create(stdout=str(fifo)).pid
        shim.call("Start", id="c1")
        while "pipe_write" not in Path(f"/proc/{pid}/wchan").read_text():
            shim.call("State", id="c1")
        size, ticks = private_kb(), cpu_ticks()
        with subprocess.Popen(["sleep", "0.5"]) as pause:
            pause.wait()
        assert cpu_ticks() - ticks <= 5
        assert private_kb() - size < 2048
        shim.call("Kill", id="c1", signal=9)
        assert shim.call("Wait", id="c1").exit_status == 137
        shim.call("Delete", id="c1")
    finally:
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        shim.close()
        os.close(reader)


ATTACH = "sampan-log://{log}?format=raw&attach={fifo}"


def read_until(fd: int, word: bytes) -> bytes:
    """Read a non-blocking fifo until `word` has come."""
    data = b""
    until_s = time.monotonic() + 10
    while word not in data:
        assert time.monotonic() < until_s, data[-100:]
        if select.select([fd], [], [], 0.05)[0]:
            # The end that select saw may be that of a writer before this one.
            with suppress(BlockingIOError):
                data += os.read(fd, 1 << 16)
    return data


def test_a_log_is_passed_on_to_who_attaches(new_shim: NewShim, ours: str, folder: Path) -> None:
    """Nobody reads for a megabyte; then one reader, who leaves, then another."""
    words = "dd if=/dev/zero bs=65536 count=16 status=none; while read x; do echo got $x; done"
    shim = new_shim(ours, folder, "sh", "-c", words)
    log, fifo, stdin = folder / "log", folder / "attach", folder / "stdin"
    os.mkfifo(fifo)
    os.mkfifo(stdin)
    try:
        shim.create(stdout=ATTACH.format(log=log, fifo=fifo), stdin=str(stdin))
        writer = os.open(stdin, os.O_WRONLY)
        shim.call("Start", id="c1")
        until_s = time.monotonic() + 10
        while not log.exists() or log.stat().st_size < 1 << 20:
            assert time.monotonic() < until_s
            select.select([], [], [], 0.01)
        for word in (b"one", b"two"):
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            os.write(writer, word + b"\n")
            assert read_until(reader, word) == b"got " + word + b"\n"
            os.close(reader)
            os.write(writer, b"nobody hears " + word + b"\n")
            while b"nobody hears " + word not in log.read_bytes()[-64:]:
                assert time.monotonic() < until_s
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        os.write(writer, b"last\n")
        assert read_until(reader, b"last") == b"got last\n"
        os.close(writer)
        shim.call("CloseIO", id="c1", stdin=True)
        shim.call("Wait", id="c1")
        until_s = time.monotonic() + 10
        while os.read(reader, 16) if select.select([reader], [], [], 0.1)[0] else True:
            assert time.monotonic() < until_s, "the end of the output is not told"
        os.close(reader)
        assert b"got one\n" in log.read_bytes()
        assert b"got last\n" in log.read_bytes()
    finally:
        shim.close()


def test_a_slow_reader_gets_every_byte_and_the_log_once(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "sh", "-c", "read x; cat /pattern")
    log, fifo, stdin = folder / "log", folder / "attach", folder / "stdin"
    os.mkfifo(fifo)
    os.mkfifo(stdin)
    pattern = b"".join(b"%07d\n" % number for number in range(1 << 18))
    (shim.bundle / "rootfs/pattern").write_bytes(pattern)
    try:
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        shim.create(stdout=ATTACH.format(log=log, fifo=fifo), stdin=str(stdin))
        writer = os.open(stdin, os.O_WRONLY)
        shim.call("Start", id="c1")
        os.write(writer, b"go\n")
        os.close(writer)
        got = bytearray()
        until_s = time.monotonic() + 30
        while len(got) < len(pattern):
            assert time.monotonic() < until_s
            select.select([reader], [], [], 0.1)
            try:
                got += os.read(reader, 30000)
            except BlockingIOError:
                continue
        assert bytes(got) == pattern
        shim.call("Wait", id="c1")
        os.close(reader)
        assert log.read_bytes() == pattern
    finally:
        shim.close()
