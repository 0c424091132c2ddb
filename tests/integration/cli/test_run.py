"""`sampan run`: output, exit statuses, stdin, and nothing left behind."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.linux.process import pidfd_open, pidfd_wait

from .conftest import Sampan

HOST = ("run", "--rm", "host:", "--")


def test_a_program_of_the_host_runs_in_its_own_namespaces(sampan: Sampan) -> None:
    code = "import os; print(os.getpid(), os.path.exists('/etc/shadow'), os.getcwd())"
    assert sampan(*HOST, "python3", "-c", code).ok() == "1 False /\n"
    assert sampan.containers() == []


def test_what_a_host_container_writes_stays_inside(sampan: Sampan) -> None:
    name = f"sampan-test-{os.getpid()}"
    script = f"echo x > /usr/{name} && echo x > /etc/{name} && cat /usr/{name} /etc/{name}"
    assert sampan(*HOST, "sh", "-c", script).ok() == "x\nx\n"
    assert not Path(f"/usr/{name}").exists()
    assert not Path(f"/etc/{name}").exists()


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (("sh", "-c", "exit 7"), 7, ""),
        (("python3", "-c", "import os; os.kill(0, 0); os._exit(143)"), 143, ""),
        (("no-such-program",), 127, "not found"),
        (("/etc/passwd",), 126, "permission denied"),
        (("/etc",), 126, ""),
        (("/no/such/path",), 127, "no such file"),
    ],
)
def test_exit_statuses_are_dockers(
    sampan: Sampan, command: tuple[str, ...], status: int, says: str
) -> None:
    result = sampan(*HOST, *command)
    assert result.status == status
    assert says in result.stderr.lower()
    assert result.stderr.count("\n") == (1 if says or command == ("/etc",) else 0)
    assert sampan.containers() == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--no-such-flag", "host:", "true"), "no-such-flag"),
        (("--memory", "much", "host:", "true"), "no size"),
        (("-u", "nobody-there", "host:", "true"), "nobody-there"),
        (("-u", "4294967296", "host:", "true"), "4294967296"),
        (("-u", "+1", "host:", "true"), "+1"),
        (("--cap-add", "FLYING", "host:", "true"), "FLYING"),
        (("-w", "relative", "host:", "true"), "absolute"),
        (("-v", "/no/such/source:/x", "host:", "true"), "/no/such/source"),
        (("--network", "no-such-net", "host:", "true"), "no-such-net"),
        (("--name", "no spaces", "host:", "true"), "name"),
        (("Bad Reference!", "true"), "Bad Reference!"),
        (("docker.io/library/UPPER:1", "true"), "UPPER"),
        (("host:",), "no command"),
    ],
)
def test_bad_input_is_one_sentence_and_125(
    sampan: Sampan, args: tuple[str, ...], says: str
) -> None:
    result = sampan("run", "--rm", *args)
    assert result.status == 125, result
    assert result.stderr.startswith("sampan: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert sampan.containers() == []
    assert not any((sampan.root / "containers").glob("*/names/*"))


def test_an_image_gives_its_command_and_flags_replace_it(sampan: Sampan, small: str) -> None:
    assert sampan("run", "--rm", small).ok() == "default\n"
    assert sampan("run", "--rm", small, "sh", "-c", "echo $X $PWD").ok() == "/\n"
    flags = ("-e", "X=1", "-w", "/usr", "--entrypoint", "sh")
    assert sampan("run", "--rm", *flags, small, "-c", "echo $X $PWD").ok() == "1 /usr\n"


def test_flags_reach_the_kernel(sampan: Sampan) -> None:
    flags = (
        *("--hostname", "boat", "--memory", "64m", "--pids-limit", "40", "--cpus", "0.5"),
        *("--cap-drop", "ALL", "--cap-add", "KILL", "--read-only", "--tmpfs", "/scratch"),
        *("-u", "1000:1000"),
    )
    code = (
        "import os, socket; s = open('/proc/self/status').read();"
        "print(socket.gethostname(), os.getuid(), os.getgid(),"
        " [l.split()[1] for l in s.splitlines() if l.startswith(('CapBnd', 'Seccomp:'))],"
        " os.statvfs('/').f_flag & 1, os.access('/scratch', os.W_OK))"
    )
    out = sampan("run", "--rm", *flags, "host:", "python3", "-c", code).ok()
    assert out == "boat 1000 1000 ['0000000000000020', '2'] 1 True\n"


def test_network_none_is_a_loopback_that_is_up(sampan: Sampan) -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        "c = socket.create_connection(s.getsockname());"
        "print([n for _, n in socket.if_nameindex()])"
    )
    assert sampan(*HOST, "python3", "-c", code).ok() == "['lo']\n"


def test_network_host_is_the_hosts(sampan: Sampan) -> None:
    out = sampan("run", "--rm", "--network", "host", "host:", "readlink", "/proc/self/ns/net").ok()
    assert out.strip() == os.readlink("/proc/self/ns/net")


def test_volumes_are_shared_and_read_only_when_asked(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("given")
    volume = f"{tmp_path}:/data"
    script = "cat /data/in; echo back > /data/out"
    assert sampan("run", "--rm", "-v", volume, "host:", "sh", "-c", script).ok() == "given"
    assert (tmp_path / "out").read_text() == "back\n"
    refused = sampan("run", "--rm", "-v", f"{volume}:ro", "host:", "touch", "/data/no")
    assert refused.status == 1
    assert "Read-only" in refused.stderr


def test_stdin_is_passed_on_and_ends(sampan: Sampan) -> None:
    data = b"line\n" * 100_000
    out = sampan("run", "--rm", "-i", "host:", "cat", stdin=data).ok()
    assert out.encode() == data
    assert sampan("run", "--rm", "host:", "cat", stdin=b"unseen").ok() == ""


def test_stdout_and_stderr_stay_apart_and_whole(sampan: Sampan) -> None:
    code = "import sys; sys.stdout.write('o' * 300000); sys.stderr.write('e' * 300000)"
    result = sampan(*HOST, "python3", "-c", code)
    assert (result.stdout, result.stderr) == ("o" * 300000, "e" * 300000)


def test_a_reader_who_goes_away_ends_it_quietly(sampan: Sampan) -> None:
    run = sampan.start(*HOST, "yes")
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.read(2) == b"y\n"
    run.stdout.close()
    # The container gets SIGPIPE or is ended with us: either way nothing is said, nothing stays.
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) != 0
    assert b"Traceback" not in run.stderr.read()
    run.stderr.close()
    assert sampan.containers() == []


def test_signals_are_forwarded(
    sampan: Sampan, line_of: Callable[["subprocess.Popen[bytes]"], str]
) -> None:
    script = "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    with sampan.start(*HOST, "sh", "-c", script) as run:
        assert line_of(run) == "ready\n"
        run.send_signal(signal.SIGUSR1)
        assert line_of(run) == "got\n"
        assert run.wait(20) == 9


def test_ctrl_c_ends_the_container_and_us(
    sampan: Sampan, line_of: Callable[["subprocess.Popen[bytes]"], str]
) -> None:
    with sampan.start(*HOST, "python3", "-c", "print(1, flush=True); input()", text=None) as run:
        # input() reads /dev/null at once: EOFError is the program's own affair.
        assert line_of(run) == "1\n"
        assert run.wait(20) == 1
    script = "trap 'exit 130' INT; echo ready; while :; do sleep 0.05; done"
    with sampan.start(*HOST, "sh", "-c", script) as run:
        assert line_of(run) == "ready\n"
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130


def test_rm_with_a_killed_cli_ends_everything(
    sampan: Sampan, line_of: Callable[["subprocess.Popen[bytes]"], str]
) -> None:
    with sampan.start(
        "run", "--rm", "--name", "doomed", "host:", "sh", "-c", "echo up; sleep 600"
    ) as run:
        assert line_of(run) == "up\n"
        found = json.loads(sampan("inspect", "doomed").ok())[0]
        pidfd = pidfd_open(found["State"]["Pid"])
        run.kill()
        run.wait(20)
    try:
        assert pidfd_wait(pidfd, 20), "the container outlives its owner"
    finally:
        os.close(pidfd)
    # Whoever comes next clears the record away, too, and the name is free again.
    assert sampan("run", "--rm", "--name", "doomed", "host:", "echo", "again").ok() == "again\n"
    assert sampan.containers() == []


def test_logs_of_a_container_whose_cli_was_killed_are_kept(
    sampan: Sampan, line_of: Callable[["subprocess.Popen[bytes]"], str]
) -> None:
    script = "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); done; exec sleep 600"
    with sampan.start("run", "--name", "kept", "host:", "sh", "-c", script) as run:
        assert line_of(run) == "0\n"
        run.kill()
        run.wait(20)
    sampan("kill", "kept").ok()
    assert sampan("wait", "kept").ok() == "137\n"
    assert sampan("logs", "kept").ok().split() == [str(i) for i in range(20)]
