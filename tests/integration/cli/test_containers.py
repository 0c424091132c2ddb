"""A container's life by single commands."""

import json
import os

import pytest

from .conftest import Sampan


def detached(sampan: Sampan, *more: str, script: str = "echo up; exec sleep 600") -> str:
    return sampan("run", "-d", *more, "host:", "sh", "-c", script).ok().strip()


def test_a_detached_container_lives_on_and_is_found(sampan: Sampan) -> None:
    whole = detached(sampan, "--name", "web", "-l", "a=b")
    assert len(whole) == 64
    assert sampan("ps", "-q", "--no-trunc").ok().split() == [whole]
    found = json.loads(sampan("inspect", whole[:6]).ok())[0]
    assert found["State"]["Running"] is True
    assert sampan("top", "web").ok().count("sleep 600") == 1
    assert sampan("rename", "web", "shop").status == 0
    assert sampan("inspect", "web").status == 1
    assert "running" in sampan("rm", "shop").stderr
    assert sampan("rm", "-f", "shop").ok() == "shop\n"
    assert sampan.containers() == []


def test_stop_is_by_signal_and_logs_stay(sampan: Sampan) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    detached(sampan, "--name", "c", script=script)
    follow = sampan.start("logs", "-f", "c")
    assert follow.stdout is not None
    assert follow.stdout.readline() == b"up\n"
    sampan("stop", "c").ok()
    assert follow.communicate(timeout=20)[0] == b"bye\n"
    assert follow.returncode == 0
    assert sampan("wait", "c").ok() == "3\n"
    assert "Exited (3)" in sampan("ps", "-a").ok()
    assert sampan("logs", "c").ok() == "up\nbye\n"
    assert sampan("logs", "--tail", "1", "c").ok() == "bye\n"
    assert sampan("logs", "-t", "c").ok().splitlines()[0].endswith("Z up")


def test_it_starts_again_with_its_files(sampan: Sampan) -> None:
    script = "cat /etc/mine 2>/dev/null; echo before > /etc/mine"
    sampan("create", "--name", "c", "host:", "sh", "-c", script).ok()
    assert sampan("ps", "-q").ok() == ""
    assert sampan("start", "-a", "c").ok() == ""
    assert sampan("start", "-a", "c").ok() == "before\n"


def test_exec_is_inside_and_returns_its_status(sampan: Sampan) -> None:
    detached(sampan, "--name", "c")
    script = "echo $A $(id -u) $PWD; cat; exit 4"
    flags = ("-i", "-e", "A=b", "-u", "65534", "-w", "/usr")
    done = sampan("exec", *flags, "c", "sh", "-c", script, stdin=b"in\n")
    assert (done.status, done.stdout) == (4, "b 65534 /usr\nin\n")
    assert sampan("exec", "c", "no-such-program").status == 127
    assert sampan("exec", "c", "/etc/passwd").status == 126
    assert sampan("exec", "nobody", "true").status == 1
    assert "4294967296" in sampan("exec", "-u", "4294967296", "c", "true").stderr


def test_pause_stops_time_and_unpause_lets_it_go_on(sampan: Sampan) -> None:
    detached(sampan, "--name", "c")
    sampan("pause", "c").ok()
    assert "Paused" in sampan("ps").ok()
    sampan("unpause", "c").ok()
    assert sampan("exec", "c", "echo", "alive").ok() == "alive\n"


def test_stats_show_one_table(sampan: Sampan) -> None:
    detached(sampan, "--name", "c", "--memory", "64m")
    out = sampan("stats", "--no-stream", "c").ok()
    assert len(out.splitlines()) == 2
    assert "67.1MB" in out


def test_restart_is_a_new_process(sampan: Sampan) -> None:
    detached(sampan, "--name", "c")
    before = json.loads(sampan("inspect", "c").ok())[0]["State"]["Pid"]
    sampan("restart", "-t", "0", "c").ok()
    after = json.loads(sampan("inspect", "c").ok())[0]["State"]["Pid"]
    assert before != after
    assert sampan("logs", "c").ok() == "up\nup\n"


def test_attach_sees_what_comes(sampan: Sampan) -> None:
    script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; echo came; exit 5"
    detached(sampan, "--name", "c", script=script)
    attached = sampan.start("attach", "c")
    sampan("exec", "c", "touch", "/tmp/go").ok()
    out, _ = attached.communicate(timeout=20)
    assert (out, attached.returncode) == (b"came\n", 5)


def test_a_name_is_taken_once(sampan: Sampan) -> None:
    detached(sampan, "--name", "c")
    again = sampan("run", "-d", "--name", "c", "host:", "true")
    assert again.status == 125
    assert "belongs to container" in again.stderr


@pytest.mark.parametrize("verb", ["stop", "kill", "rm", "logs", "inspect", "wait", "top", "pause"])
def test_an_unknown_container_is_one_sentence(sampan: Sampan, verb: str) -> None:
    result = sampan(verb, "nobody")
    assert result.status == 1
    assert result.stderr.count("\n") == 1
    assert "nobody" in result.stderr


def test_two_roots_know_nothing_of_each_other(sampan: Sampan) -> None:
    detached(sampan, "--name", "c")
    other = Sampan(sampan.root.with_name("root2"), sampan.state.with_name("state2"))
    assert other.containers() == []
    assert other("run", "--rm", "--name", "c", "host:", "true").status == 0
    assert len(sampan.containers()) == 1


def test_an_unprivileged_user_is_told_what_to_do(sampan: Sampan) -> None:
    argv = [*sampan.argv, "ps"]
    import subprocess

    done = subprocess.run(
        argv, capture_output=True, text=True, user=65534, group=65534, timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "--root and --state" in done.stderr
