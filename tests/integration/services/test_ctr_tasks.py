"""ctr 1.6 on containers and tasks, step by step, ours and Debian's containerd beside each other."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import requires, unique_name
from sampan.testing.daemons import masked, tiny_archive

pytestmark = requires("root", "ctr", "containerd", "runc", "busybox")

IMAGE = "example.com/box:1"
_IMAGES = "application/vnd.containerd.container.criu.checkpoint.criu.tar"


def both(pair: Any) -> tuple[Any, Any]:
    return pair.ours, pair.theirs


def run(daemon: Any, *words: str, detach: bool = True, flags: tuple[str, ...] = ()) -> str:
    """Run a container in a cgroup of its own; return its id, or what it said."""
    name = unique_name("t")
    mode = ("-d",) if detach else ("--rm",)
    said = daemon.ok("run", *mode, "--cgroup", f"/{name}", *flags, IMAGE, name, *words)
    return name if detach else str(said)


@contextmanager
def running(daemon: Any, *flags: str) -> Iterator[str]:
    """A container that sleeps."""
    name = run(daemon, "/bin/busybox", "sleep", "1000", flags=flags)
    try:
        yield name
    finally:
        daemon.ctr("task", "rm", "-f", name)
        daemon.ok("container", "rm", name)


FLAGS = {
    "plain": ((), "busybox echo out; busybox echo err >&2; exit 3"),
    "env": (("--env", "A=b"), "busybox echo $A"),
    "cwd": (("--cwd", "/bin"), "busybox pwd"),
    "read-only": (("--read-only",), "busybox touch /x"),
    "host-net": (("--net-host",), "busybox readlink /proc/self/ns/net"),
    "mount": (
        ("--mount", "type=bind,src=/usr/bin,dst=/mnt,options=rbind:ro"),
        "busybox test -x /mnt/env && busybox touch /mnt/x",
    ),
    "memory": (
        ("--memory-limit", "50000000"),
        "busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
    ),
    "seccomp": (("--seccomp",), "busybox grep Seccomp: /proc/self/status"),
    "privileged": (("--privileged",), "busybox grep Cap /proc/self/status"),
    "capabilities": ((), "busybox grep Cap /proc/self/status"),
    "no-such-program": ((), None),
    "label": (("--label", "x=y"), "busybox true"),
    "rlimits": ((), "busybox grep -i 'open files' /proc/self/limits"),
    "mounts": ((), "busybox cut -d' ' -f2-4 /proc/mounts"),
    "oom-score": ((), "busybox cat /proc/self/oom_score_adj"),
    "pid": ((), "busybox echo $$"),
    "environment": ((), "busybox env"),
    "fds": ((), "busybox ls /proc/self/fd"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_run_with(pair: Any, name: str) -> None:
    """containerd loses the output of a very short task now and then: it may try again."""
    flags, script = FLAGS[name]
    ours = once(pair.ours, flags, script)
    for _ in range(3):
        theirs = once(pair.theirs, flags, script)
        if theirs == ours:
            break
    assert ours == theirs


def once(daemon: Any, flags: tuple[str, ...], script: str | None) -> tuple[int, str, str]:
    """Run a container to its end; return what is comparable of code and output."""
    box = unique_name("f")
    words = ("/no/such/program",) if script is None else ("/bin/busybox", "sh", "-c", script)
    done = daemon.ctr("run", "--rm", "--cgroup", f"/{box}", *flags, IMAGE, box, *words)
    masks = ((box, "ID"), (str(daemon.folder), "FOLDER"), (r"snapshots/\S+", "SNAPSHOTS"))
    assert box not in daemon.ok("container", "ls", "-q")
    assert "Incorrect Usage" not in done.stdout
    return done.returncode, masked(done.stdout, *masks), _reason(done.stderr)


def _reason(text: str) -> str:
    """Return the part of an error that both say: the runtimes' own words differ before it."""
    if "no such file" in text or "executable file not found" in text:
        return "no such file"
    return masked(text)


def test_terminal(pair: Any) -> None:
    """`-t` needs a terminal: script(1) gives ctr one."""
    said: list[Any] = []
    for daemon in both(pair):
        box = unique_name("t")
        line = (
            f"ctr -a {daemon.address} run --rm -t --cgroup /{box} {IMAGE} {box} "
            "/bin/busybox sh -c 'busybox tty; exit 5'"
        )
        done = subprocess.run(
            ["script", "-qec", line, "/dev/null"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said.append((done.returncode, done.stdout.replace("^@", "").split()))
    assert said[0] == said[1]
    assert said[0][0] == 5


def test_life(pair: Any) -> None:
    """containers create, task start, ls, ps, exec, pause, resume, metrics, kill, delete."""
    transcripts = []
    for daemon in both(pair):
        box = unique_name("l")
        said: list[Any] = []

        def note(*words: str, daemon: Any = daemon, box: str = box, said: list[Any] = said) -> None:
            done = daemon.ctr(*words)
            masks = ((box, "ID"), (r"\b\d{2,}\b", "N"), (str(daemon.folder), "FOLDER"))
            said.append((words[0:2], done.returncode, masked(done.stdout, *masks)))

        note("container", "create", IMAGE, box, "/bin/busybox", "sleep", "99")
        note("container", "create", IMAGE, box, "/bin/busybox", "true")
        note("container", "ls", f"id=={box}")
        note("task", "start", "-d", box)
        note("task", "start", "-d", box)
        note("task", "ls")
        note("task", "ps", box)
        note("task", "exec", "--exec-id", "e1", box, "/bin/busybox", "echo", "hello")
        note("task", "exec", "--exec-id", "e2", box, "/bin/busybox", "sh", "-c", "exit 7")
        note(
            "task",
            "exec",
            "--exec-id",
            "e3",
            "--cwd",
            "/bin",
            "--user",
            "9",
            box,
            "/bin/busybox",
            "id",
        )
        note("task", "exec", "--exec-id", "e4", "no-such-task", "/bin/true")
        note("task", "pause", box)
        note("task", "ls")
        note("task", "resume", box)
        note("task", "ls")
        note("container", "label", box, "a=b")
        note("container", "ls", "labels.a==b")
        note("container", "rm", box)
        note("task", "rm", box)
        note("task", "kill", "-s", "SIGKILL", box)
        _wait(daemon, box)
        note("task", "ls")
        note("task", "kill", "-s", "SIGKILL", box)
        note("task", "rm", box)
        note("task", "rm", box)
        note("task", "ls")
        note("container", "rm", box)
        note("container", "rm", box)
        note("container", "info", box)
        transcripts.append(said)
    for ours, theirs in zip(*transcripts, strict=True):
        assert ours == theirs


def _wait(daemon: Any, box: str) -> None:
    from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as pb

    with daemon.client() as client:
        request = pb.WaitRequest(container_id=box)
        client.call("tasks.v1.Tasks/Wait", request, pb.WaitResponse, "default")


def test_info_is_the_same(pair: Any) -> None:
    """The whole record, spec included: both were given it by the same client."""
    found = []
    for daemon in both(pair):
        box = unique_name("i")
        daemon.ok(
            *("container", "create", "--label", "a=b", "--env", "C=d"),
            *(IMAGE, box, "/bin/busybox", "true"),
        )
        info = json.loads(daemon.ok("container", "info", box))
        daemon.ok("container", "rm", box)
        for key in ("ID", "SnapshotKey", "CreatedAt", "UpdatedAt"):
            info.pop(key)
        info["Spec"]["linux"].pop("cgroupsPath")
        found.append(info)
    assert found[0] == found[1]


def test_metrics_have_the_same_keys(pair: Any) -> None:
    keys = []
    for daemon in both(pair):
        with running(daemon) as box:
            text = daemon.ok("task", "metrics", "--format", "json", box)
            keys.append(_shape(json.loads(text)))
            table = daemon.ok("task", "metrics", box)
            assert box in table
            assert "memory.usage_in_bytes" in table
    assert keys[0] == keys[1]


def _shape(value: Any) -> Any:
    """Return the names of a message's messages; figures that are 0 are not shown at all."""
    if isinstance(value, dict):
        found = {key: _shape(one) for key, one in sorted(value.items())}
        return {key: one for key, one in found.items() if one is not None}
    return [] if isinstance(value, list) else None


def test_attach_gets_output_and_code(pair: Any) -> None:
    for daemon in both(pair):
        box = unique_name("a")
        fifo = daemon.folder / f"{box}.go"
        os.mkfifo(fifo)
        script = "busybox cat /go >/dev/null; busybox echo attached; exit 4"
        mount = f"type=bind,src={fifo},dst=/go,options=bind:rw"
        daemon.ok(
            *("run", "-d", "--cgroup", f"/{box}", "--mount", mount),
            *(IMAGE, box, "/bin/busybox", "sh", "-c", script),
        )
        with subprocess.Popen(
            ["ctr", "-a", str(daemon.address), "task", "attach", box],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        ) as attached:
            # Attaching waits for the end: by then both have opened the output's fifo.
            with open(fifo, "wb") as go:
                go.write(b"x")
            attached.communicate(timeout=30)
        assert attached.returncode == 4
        daemon.ctr("task", "rm", box)
        daemon.ok("container", "rm", box)


def test_events_come_in_the_same_order(pair: Any) -> None:
    topics = []
    for daemon in both(pair):
        with subprocess.Popen(
            ["ctr", "-a", str(daemon.address), "events"], stdout=subprocess.PIPE, text=True
        ) as events:
            _subscribed(daemon, events)
            box = unique_name("e")
            daemon.ok("run", "--cgroup", f"/{box}", IMAGE, box, "/bin/busybox", "true")
            daemon.ok("container", "rm", box)
            daemon.ok("namespace", "create", "the-end")
            found = []
            assert events.stdout is not None
            for line in events.stdout:
                if "the-end" in line:
                    break
                if box in line:
                    found.append(next(word for word in line.split() if word.startswith("/")))
            events.send_signal(signal.SIGTERM)
            events.wait(20)
        daemon.ok("namespace", "rm", "the-end")
        topics.append(found)
    assert topics[0] == topics[1]
    assert "/tasks/exit" in topics[0]


def _subscribed(daemon: Any, events: Any) -> None:
    """Return when `ctr events` shows the first of the namespaces made meanwhile."""
    for number in range(200):
        name = f"probe{number}"
        daemon.ok("namespace", "create", name)
        ready = select.select([events.stdout], [], [], 0.1)[0]
        daemon.ok("namespace", "rm", name)
        if ready:
            while "/namespaces/delete" not in events.stdout.readline():
                pass
            return
    pytest.fail("ctr events shows nothing")


def test_install_copies_programs(pair: Any, short_path: Path) -> None:
    archive = tiny_archive(short_path)
    for daemon in both(pair):
        target = daemon.folder / "opt"
        target.mkdir()
        daemon.ok("image", "import", str(archive))
        daemon.ok("install", "--path", str(target), "example.com/tool:1")
        assert (target / "bin/tool").read_text() == "#!/bin/sh\n"
        again = daemon.ctr("install", "--path", str(target), "example.com/tool:1")
        assert again.returncode == 1
        daemon.ok("install", "--replace", "--path", str(target), "example.com/tool:1")
        daemon.ok("image", "rm", "--sync", "example.com/tool:1")


def test_plugins_and_version(pair: Any) -> None:
    shown = {
        daemon.kind: {
            tuple(line.split()[:2]) for line in daemon.ok("plugins", "ls").splitlines()[1:]
        }
        for daemon in both(pair)
    }
    kinds = ("io.containerd.grpc.v1", "io.containerd.service.v1", "io.containerd.event.v1")
    needed = {one for one in shown["containerd"] if one[0] in kinds and one[1] != "cri"}
    assert needed - shown["sampand"] == set()
    for daemon in both(pair):
        said = daemon.ok("version")
        assert said.count("Version:") == 2
        assert "UUID:" in said


def test_oci_spec_needs_no_daemon(pair: Any) -> None:
    assert json.loads(pair.ours.ok("oci", "spec"))["ociVersion"]


def test_checkpoint_of_files(pair: Any) -> None:
    """The container's record, image and changed files travel in one image; no process does."""
    kinds = []
    for daemon in both(pair):
        name = f"example.com/{unique_name('k')}:1"
        with running(daemon) as box:
            daemon.ok("task", "exec", "--exec-id", "w", box, "/bin/busybox", "touch", "/changed")
            daemon.ok("container", "checkpoint", "--image", "--rw", box, name)
        index = json.loads(daemon.ok("content", "get", _digest_of(daemon, name)))
        kinds.append([one["mediaType"] for one in index["manifests"]])
        refused = daemon.ctr("container", "restore", "--rw", unique_name("k"), name)
        assert (refused.returncode, refused.stderr) == (1, "ctr: media type not found\n")
        daemon.ok("image", "rm", "--sync", name)
    assert kinds[0] == kinds[1]


@requires("criu")
def test_checkpoint_of_a_process(pair: Any) -> None:
    """What CRIU can do on this kernel becomes blobs and runs again; what it cannot, is said."""
    for daemon in both(pair):
        name, again = f"example.com/{unique_name('p')}:1", unique_name("p")
        with running(daemon) as box:
            done = daemon.ctr("container", "checkpoint", "--image", "--rw", "--task", box, name)
            if done.returncode:
                assert "criu" in done.stderr.lower() or "checkpoint" in done.stderr
                daemon.ok("task", "exec", "--exec-id", "e", box, "/bin/busybox", "true")
                continue
        index = json.loads(daemon.ok("content", "get", _digest_of(daemon, name)))
        assert _IMAGES in [one["mediaType"] for one in index["manifests"]]
        daemon.ok("container", "restore", "--rw", "--live", again, name)
        daemon.ok("task", "rm", "-f", again)
        daemon.ok("container", "rm", again)
        daemon.ok("image", "rm", "--sync", name)


def _digest_of(daemon: Any, name: str) -> str:
    line = next(one for one in daemon.ok("image", "ls").splitlines() if one.startswith(name))
    return next(str(word) for word in line.split() if word.startswith("sha256:"))
