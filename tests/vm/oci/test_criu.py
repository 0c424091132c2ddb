"""Checkpoint and restore with the real criu, on a kernel that it can work with."""

import json
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.linux import fds
from sampan.testing import Bundle, Runtime, requires

pytestmark = requires("root", "busybox", "criu")

COUNT = ("sh", "-c", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done")


class Pipe:
    """A pipe whose writing end is a container's stdout."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self._rest = b""

    def line(self) -> str:
        while b"\n" not in self._rest:
            assert select.select([self.read_end], [], [], 30)[0], "nothing was written"
            data = os.read(self.read_end, 4096)
            assert data, "end of file"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def pipes() -> Iterator[Callable[[], Pipe]]:
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe())
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


@pytest.fixture(params=["sampan-exec", "sampan-fork", "runc"])
def runtime(request: pytest.FixtureRequest, make_runtime: Callable[[str], Runtime]) -> Runtime:
    name: str = request.param
    return make_runtime(name)


def start(runtime: Runtime, bundle: Bundle, out: int) -> str:
    bundle.write(bundle.config)
    arguments = ("run", "-d", "--bundle", str(bundle.path), bundle.id)
    with open("/dev/null", "rb") as null:
        result = runtime.call(*arguments, stdin=null.fileno(), stdout=out, stderr=out)
    assert result.returncode == 0, result.stderr
    runtime._pids[bundle.id] = 0
    return bundle.id


def checkpoint(runtime: Runtime, name: str, image: Path, *flags: str) -> None:
    result = runtime.call("checkpoint", "--image-path", str(image), *flags, name, timeout_s=120)
    assert result.returncode == 0, result.stderr + result.stdout


def restore(runtime: Runtime, bundle: Bundle, image: Path, out: int, *flags: str) -> None:
    where = ("--bundle", str(bundle.path), "--image-path", str(image))
    arguments = ("restore", "-d", *where, *flags, bundle.id)
    with open("/dev/null", "rb") as null:
        result = runtime.call(
            *arguments, stdin=null.fileno(), stdout=out, stderr=out, timeout_s=120
        )
    assert result.returncode == 0, result.stderr


def test_a_restored_program_goes_on_where_it_was(
    runtime: Runtime, bundle: Bundle, short_path: Path, pipes: Callable[[], Pipe]
) -> None:
    """It has its memory, its tmpfs, its volumes, and the pipe of whoever restored it."""
    volume = short_path / "volume"
    volume.mkdir()
    (volume / "from-host").write_text("hello\n")
    bundle.mount("/data", "bind", str(volume), "rbind", "rw")
    bundle.process["args"] = list(COUNT)
    image, first, second = short_path / "image", pipes(), pipes()
    name = start(runtime, bundle, first.write_end)
    assert runtime.exec(name, "sh", "-c", "echo kept >/run/file").returncode == 0
    while int(first.line()) < 3:
        pass
    checkpoint(runtime, name, image)
    assert runtime.call("state", name).returncode != 0, "it is gone"
    assert len(json.loads((image / "descriptors.json").read_text())) == 3
    restore(runtime, bundle, image, second.write_end)
    assert int(second.line()) > 3
    assert runtime.state(name)["status"] == "running"
    assert runtime.exec(name, "cat", "/run/file").stdout == "kept\n"
    assert runtime.exec(name, "cat", "/data/from-host").stdout == "hello\n"
    assert "0::/" in runtime.exec(name, "cat", "/proc/1/cgroup").stdout
    pid = runtime.state(name)["pid"]
    assert f"/{name}" in Path(f"/proc/{pid}/cgroup").read_text()
    runtime.delete(name, force=True)


def test_images_go_from_one_runtime_to_the_other(
    make_runtime: Callable[[str], Runtime], bundle: Bundle, short_path: Path,
    pipes: Callable[[], Pipe],
) -> None:  # fmt: skip
    ours, runc = make_runtime("sampan-exec"), make_runtime("runc")
    bundle.process["args"] = list(COUNT)
    for at, (source, target) in enumerate(((ours, runc), (runc, ours))):
        image, first, second = short_path / f"image{at}", pipes(), pipes()
        name = start(source, bundle, first.write_end)
        while int(first.line()) < 3:
            pass
        checkpoint(source, name, image)
        del source._pids[name]
        restore(target, bundle, image, second.write_end)
        target._pids[name] = 0
        assert int(second.line()) > 3
        target.delete(name, force=True)


def test_left_running_it_runs_on(
    runtime: Runtime, bundle: Bundle, short_path: Path, pipes: Callable[[], Pipe]
) -> None:
    bundle.process["args"] = list(COUNT)
    pipe = pipes()
    name = start(runtime, bundle, pipe.write_end)
    pipe.line()
    work = short_path / "work"
    checkpoint(runtime, name, short_path / "image", "--leave-running", "--work-path", str(work))
    assert runtime.state(name)["status"] == "running"
    assert (work / "dump.log").exists()
    seen = int(pipe.line())
    while int(pipe.line()) <= seen + 3:
        pass
    runtime.delete(name, force=True)


def test_memory_beforehand_the_rest_later(
    runtime: Runtime, bundle: Bundle, short_path: Path, pipes: Callable[[], Pipe]
) -> None:
    bundle.process["args"] = list(COUNT)
    first, second = pipes(), pipes()
    name = start(runtime, bundle, first.write_end)
    first.line()
    checkpoint(runtime, name, short_path / "before", "--pre-dump")
    assert runtime.state(name)["status"] == "running"
    checkpoint(runtime, name, short_path / "image", "--parent-path", "../before")
    restore(runtime, bundle, short_path / "image", second.write_end)
    assert int(second.line()) > 1
    runtime.delete(name, force=True)


def test_files_of_the_host_may_be_stdio(
    make_runtime: Callable[[str], Runtime], bundle: Bundle, short_path: Path
) -> None:
    """Whoever restores gives the same file again. Debian's runc cannot do it."""
    runtime = make_runtime("sampan-exec")
    bundle.process["args"] = list(COUNT)
    with (short_path / "out").open("ab") as out:
        name = start(runtime, bundle, out.fileno())
        checkpoint(runtime, name, short_path / "image")
        before = (short_path / "out").read_bytes()
        restore(runtime, bundle, short_path / "image", out.fileno())
        pid = runtime.state(name)["pid"]
        assert os.readlink(f"/proc/{pid}/fd/1") == str(short_path / "out")
    while len((short_path / "out").read_bytes()) <= len(before):
        os.sched_yield()
    runtime.delete(name, force=True)


def test_a_terminal_is_sent_anew(runtime: Runtime, bundle: Bundle, short_path: Path) -> None:
    bundle.process["args"] = ["sh", "-c", "while read -r line; do echo got $line; done"]
    bundle.process["terminal"] = True
    bundle.write(bundle.config)
    listener = socket.socket(socket.AF_UNIX)
    fds.unix_bind(listener, str(short_path / "console"))
    listener.listen()

    def console(*arguments: str) -> int:
        where = ("--console-socket", str(short_path / "console"), bundle.id)
        result = runtime.call(*arguments, "-d", "--bundle", str(bundle.path), *where, timeout_s=120)
        assert result.returncode == 0, result.stderr
        assert select.select([listener], [], [], 30)[0]
        connection, _ = listener.accept()
        _, received = fds.recv_fds(connection, 4096, 1)
        connection.close()
        return received[0]

    runtime._pids[bundle.id] = 0
    master = console("run")
    os.write(master, b"one\n")
    expect(master, b"got one")
    checkpoint(runtime, bundle.id, short_path / "image")
    os.close(master)
    master = console("restore", "--image-path", str(short_path / "image"))
    os.write(master, b"two\n")
    expect(master, b"got two")
    os.close(master)
    listener.close()
    runtime.delete(bundle.id, force=True)


def expect(master: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        assert select.select([master], [], [], 30)[0], seen
        seen += os.read(master, 4096)


def test_what_is_no_image_is_said(make_runtime: Callable[[str], Runtime], bundle: Bundle) -> None:
    runtime = make_runtime("sampan-exec")
    bundle.write(bundle.config)
    where = ("--bundle", str(bundle.path), "--image-path", str(bundle.path / "none"))
    result = runtime.call("restore", *where, bundle.id)
    assert result.returncode == 1
    assert "is no checkpoint" in result.stderr
    assert list(runtime.root.iterdir()) == []
