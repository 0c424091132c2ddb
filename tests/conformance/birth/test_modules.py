"""What is loaded between fork and execve: nothing, by the word of the kernel and of the child."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sampan.testing import Bundle, requires
from sampan.testing.shims import Shims
from sampan.zygote import Zygote

pytestmark = requires("root", "busybox")


@requires("strace")
def test_nothing_is_loaded_between_fork_and_execve(
    short_path: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """Every import opens a file. Zygote, shim and init are traced from outside."""
    with Shims("fork", short_path) as shims:
        assert shims.zygote is not None
        zygote = shims.zygote.pid
        calls = "trace=open,openat,openat2,execve,execveat"
        with strace(zygote, "-ff", "-o", str(tmp_path / "log"), "-e", calls):
            shim = shims.start(bundle)
            shim.launch(bundle, "/bin/busybox", "echo", "born")
            assert shim.wait(bundle.id).exit_status == 0
            shim.delete(bundle.id)
    traces = {path.name: path.read_text() for path in tmp_path.iterdir()}
    births = {name: text for name, text in traces.items() if '"echo", "born"]' in text}
    assert len(births) == 1, traces
    assert any("config.json" in text for text in traces.values()), "it traced no shim"
    before = re.split(r"^execve", next(iter(births.values())), flags=re.MULTILINE)[0]
    assert "/proc" in before or "/dev" in before, "the trace shows no set-up: it is not the child's"
    # Nor does the shim load anything after its own fork, or whoever bears init for it.
    opened = before + "".join(text for name, text in traces.items() if name not in births)
    assert re.findall(r'"([^"]+\.(?:py|pyc|so|pth|mo)[\d.]*)"', opened) == []


@contextmanager
def strace(pid: int, *flags: str) -> Iterator[None]:
    """Trace a process and all that it forks during the block."""
    command = ["strace", *flags, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        assert b"attached" in tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.stderr.read()


def test_the_modules_of_a_child_are_those_of_its_parent(bundle: Bundle, short_path: Path) -> None:
    """`sys.modules` as the child itself reports it before execve, in a worker of a zygote."""
    bundle.write(bundle.with_changes(("true",)))
    payload = json.dumps([str(short_path / "oci"), bundle.id, str(bundle.path)]).encode()
    reading, writing = os.pipe()
    with (
        open(reading) as report,
        Zygote.start(("sampan.oci.main", "sampan.testing.modules")) as zygote,
    ):
        try:
            worker = zygote.fork("sampan.testing.modules:worker", payload, [writing])
        finally:
            os.close(writing)
        with worker:
            found = json.load(report)
            assert worker.wait(20) == 0
    assert found["before"] == found["child"] == found["after"]
    assert "sampan.oci.init.steps" in found["child"]
