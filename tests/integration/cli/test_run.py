"""`sampan run` and its kin, by what a user sees; exit statuses are docker's."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import requires

pytestmark = [requires("root")]
Cli = Any


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("host:", "true"), 0),
        (("host:", "sh", "-c", "exit 42"), 42),
        (("host:", "sh", "-c", "sh -c 'kill -9 $$'"), 137),
        (("host:", "no-such-program"), 127),
        (("host:", "/etc/passwd"), 126),
        (("host:", "/usr"), 126),
        (("--no-such-flag", "host:", "true"), 125),
        (("-u", "no-such-user", "host:", "true"), 125),
        (("-u", "4294967296", "host:", "true"), 125),
        (("-w", "relative", "host:", "true"), 125),
        (("--memory", "much", "host:", "true"), 125),
        (("--network", "bridge", "host:", "true"), 125),
    ],
)
def test_exit_status(sampan: Cli, words: tuple[str, ...], status: int) -> None:
    done = sampan("run", "--rm", *words)
    assert done.returncode == status, done.stderr
    if status >= 125 and status != 137:
        assert len(done.stderr.strip().splitlines()) == 1
        assert b"Traceback" not in done.stderr
    assert sampan.ok("ps", "-aq") == ""


def test_streams_are_separate_and_exact(sampan: Cli) -> None:
    data = bytes(range(256)) * 4096
    done = sampan("run", "--rm", "-i", "host:", "sh", "-c", "cat; echo err >&2", input=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"err\n")


def test_nothing_reaches_the_host_and_nothing_private_is_seen(sampan: Cli) -> None:
    probe = Path("/usr/share/sampan-test-probe")
    script = f"touch {probe} && ls {probe} && ls /etc/shadow; ls /root /home /var/lib"
    done = sampan("run", "--rm", "host:", "sh", "-c", script)
    assert str(probe).encode() in done.stdout
    assert not probe.exists()
    assert b"/etc/shadow" not in done.stdout


def test_flags_are_judged_inside(sampan: Cli) -> None:
    script = (
        "pwd; echo $A; hostname; id -u; cat /proc/self/status | grep CapEff;"
        " touch /m/x 2>/dev/null || echo read-only; touch /t/x && ls /t"
    )
    out = sampan.ok(
        "run", "--rm", "-w", "/m", "-e", "A=b", "--hostname", "hst", "-u", "1000", "--cap-drop",
        "ALL", "-v", f"{sampan.folder}:/m:ro", "--tmpfs", "/t:mode=1777", "host:", "sh", "-c", script,
    ).split("\n")  # fmt: skip
    assert out[:4] == ["/m", "b", "hst", "1000"]
    assert out[4].split()[1] == "0" * 16
    assert out[5:7] == ["read-only", "x"]


def test_detached_life(sampan: Cli) -> None:
    id = sampan.ok(
        "run", "-d", "--name", "one", "host:", "sh", "-c", "echo out; echo err >&2; sleep 99"
    )
    assert sampan("run", "-d", "--name", "one", "host:", "true").returncode == 125
    assert sampan.ok("ps", "-q", "--no-trunc") == id
    inspected = json.loads(sampan.ok("inspect", "one"))[0]
    assert inspected["State"]["Running"]
    assert Path(f"/proc/{inspected['State']['Pid']}").exists()
    done = sampan("exec", "one", "sh", "-c", "echo in; exit 3")
    assert (done.returncode, done.stdout) == (3, b"in\n")
    assert sampan("exec", "one", "no-such-program").returncode == 127
    assert sampan("exec", "-i", "one", "cat", input=b"piped").stdout == b"piped"
    assert "sleep 99" in sampan.ok("top", "one")
    sampan.ok("pause", "one")
    assert "(Paused)" in sampan.ok("ps")
    sampan.ok("unpause", "one")
    assert "one" in sampan.ok("stats", "--no-stream")
    assert sampan("rm", "one").returncode == 1
    sampan.ok("rename", "one", "two")
    sampan.ok("stop", "-t", "0", "two")
    assert "Exited (137)" in sampan.ok("ps", "-a")
    assert sampan.ok("wait", "two") == "137\n"
    logs = sampan("logs", "two")
    assert (logs.stdout, logs.stderr) == (b"out\n", b"err\n")
    assert sampan("logs", "--tail", "1", "two").stdout == b""
    sampan.ok("start", "two")
    sampan.ok("kill", "-s", "KILL", "two")
    sampan.ok("wait", "two")
    sampan.ok("rm", "two")
    assert sampan.ok("ps", "-aq") == ""


def test_create_start_attached_and_logs(sampan: Cli) -> None:
    id = sampan.ok("create", "--name", "c", "host:", "sh", "-c", "echo hi; exit 7").strip()
    assert "Created" in sampan.ok("ps", "-a")
    done = sampan("start", "-a", id[:12])
    assert (done.returncode, done.stdout) == (7, b"hi\n")
    assert sampan.ok("logs", "c") == "hi\n"
    assert "Exited (7)" in sampan.ok("ps", "-a")


def test_follow_ends_with_the_container(sampan: Cli) -> None:
    sampan.ok("run", "-d", "--name", "f", "host:", "sh", "-c", "echo a; sleep 1; echo b")
    assert sampan.ok("logs", "-f", "f") == "a\nb\n"


def _wait_for(condition: Any, timeout_s: float = 15) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        select.select([], [], [], 0.05)


def test_signals_are_forwarded(sampan: Cli) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    argv = sampan.argv("run", "--rm", "host:", "sh", "-c", script)
    with subprocess.Popen(argv, env=sampan.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"got\n"
    assert process.returncode == 9


def test_killed_cli_with_rm_takes_its_container_along(sampan: Cli) -> None:
    argv = sampan.argv("run", "--rm", "--name", "k", "host:", "sh", "-c", "echo $$; sleep 99")
    with subprocess.Popen(argv, env=sampan.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    _wait_for(lambda: sampan.ok("ps", "-q") == "")


def test_killed_cli_leaves_a_detached_container_and_its_output(sampan: Cli) -> None:
    sampan.ok(
        "run", "-d", "--name", "d", "host:", "sh", "-c", "while read x; do :; done; echo done"
    )
    sampan.ok("wait", "d")
    assert sampan.ok("logs", "d") == "done\n"


def _terminal(sampan: Cli, *words: str) -> tuple[int, int]:
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(sampan.argv()[0], sampan.argv(*words), sampan.env)
    return pid, fd


def _read_until(fd: int, wanted: bytes, timeout_s: float = 15) -> bytes:
    data = b""
    until = time.monotonic() + timeout_s
    while wanted not in data:
        left = until - time.monotonic()
        assert left > 0, data
        if select.select([fd], [], [], left)[0]:
            try:
                data += os.read(fd, 4096)
            except OSError:
                break
    assert wanted in data, data
    return data


@pytest.mark.filterwarnings("ignore:This process")
def test_terminal_keeps_size_and_passes_keys(sampan: Cli) -> None:
    import fcntl
    import struct
    import termios

    pid, fd = _terminal(
        sampan, "run", "-it", "--rm", "host:", "sh", "-c", "read x; stty size; exit 4"
    )
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        os.write(fd, b"go\r")
        _read_until(fd, b"33 77")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    finally:
        os.close(fd)


@pytest.mark.filterwarnings("ignore:This process")
def test_detach_keys_leave_it_running(sampan: Cli) -> None:
    pid, fd = _terminal(
        sampan, "run", "-it", "--name", "dt", "host:", "sh", "-c", "echo up; sleep 99"
    )
    try:
        _read_until(fd, b"up")
        os.write(fd, b"\x10\x11")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(fd)
    assert "dt" in sampan.ok("ps")
    assert sampan.ok("logs", "dt").startswith("up")


def test_two_roots_do_not_see_each_other(sampan: Cli, tmp_path: Path) -> None:
    sampan.ok("run", "-d", "--name", "here", "host:", "sleep", "99")
    other = {"SAMPAN_ROOT": str(tmp_path / "r"), "SAMPAN_STATE": str(tmp_path / "s")}
    done = sampan("ps", "-aq", **other)
    assert (done.returncode, done.stdout) == (0, b"")


def test_output_that_nobody_reads_ends_quietly(sampan: Cli) -> None:
    argv = sampan.argv("run", "--rm", "host:", "sh", "-c", "seq 100000")
    with subprocess.Popen(
        argv, env=sampan.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
