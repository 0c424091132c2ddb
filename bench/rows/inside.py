"""The same work in a container and on the host, in pairs: what isolation itself costs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.measure import Figures, Interleaved, Row, Sample, interval
from bench.stage import Stage
from sampan.testing import SESSION, Bundle, Runtime, build_rootfs

WORK = """
import json, os, socket, sys, threading, time
def cpu():
    n = 0
    for i in range(3_000_000): n += i & 3
def memory():
    a = bytearray(64 << 20)
    b = bytearray(64 << 20)
    for _ in range(12): b[:] = a
def file_4k():
    fd = os.open(sys.argv[1] + "/f", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    block = bytes(4096)
    for i in range(20000): os.pwrite(fd, block, i * 4096)
    for i in range(20000): os.pread(fd, 4096, i * 4096 * 7919 % (20000 * 4096))
    os.close(fd); os.unlink(sys.argv[1] + "/f")
def file_1m():
    fd = os.open(sys.argv[1] + "/g", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    block = bytes(1 << 20)
    for i in range(128): os.pwrite(fd, block, i << 20)
    for i in range(128): os.pread(fd, 1 << 20, i << 20)
    os.close(fd); os.unlink(sys.argv[1] + "/g")
def tcp():
    server = socket.create_server(("127.0.0.1", 0))
    def serve():
        peer, _ = server.accept()
        while peer.recv(1 << 16): pass
        peer.close()
    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(server.getsockname()) as sock:
        block = bytes(1 << 16)
        for _ in range(6000): sock.sendall(block)
    thread.join(); server.close()
took = {}
for work in (cpu, memory, file_4k, file_1m, tcp):
    began = time.perf_counter(); work(); took[work.__name__] = time.perf_counter() - began
print(json.dumps(took))
"""
_TITLES = {
    "cpu": "CPU loop",
    "memory": "memory bandwidth",
    "file_4k": "file I/O of 4 KiB on a volume",
    "file_1m": "file I/O of 1 MiB on a volume",
    "tcp": "TCP on loopback",
}


def rows(stage: Stage) -> Iterator[Row]:
    """All run the host's python3, on one file system; runc tells what is the kernel's doing."""
    volume = SESSION.new_folder()
    programs: dict[str, Sample] = {"host": _outside(str(volume))}
    with ExitStack() as stack:
        for label, name in (("inside", "sampan-oci"), ("inside runc", "runc")):
            programs[label] = stack.enter_context(_container(stage.runtimes[name], volume))
        done = Interleaved(programs, stage.options.count(15, 3)).run()
    for figure, title in _TITLES.items():
        taken = done.taken(figure)
        low, high = interval(taken["inside"], taken["host"])
        yield Row(f"inside: {title}", "ms", "inside", "host", taken, 1.02,
                  note=f"pairs {low:.2f} to {high:.2f}")  # fmt: skip


@contextmanager
def _container(runtime: Runtime, volume: Path) -> Iterator[Sample]:
    """Run a container that waits; the sample works in it."""
    bundle = Bundle(SESSION.new_folder(), SESSION.unique_name("bench"))
    build_rootfs(bundle.rootfs)
    bundle.bind_host_programs()
    bundle.mount("/home", "bind", str(volume), "bind", "rw")
    container = runtime.create(bundle, "/usr/bin/sleep", "100000")
    runtime.start(container)

    def inside() -> Figures:
        result = runtime.exec(container, "/usr/bin/python3", "-I", "-c", WORK, "/home")
        assert result.returncode == 0, result.stderr
        return _figures(result.stdout)

    try:
        yield inside
    finally:
        runtime.kill(container)
        runtime.wait(container)
        runtime.delete(container)


def _outside(volume: str) -> Sample:
    def take() -> Figures:
        command = ["/usr/bin/python3", "-I", "-c", WORK, volume]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return _figures(done.stdout)

    return take


def _figures(text: str) -> Figures:
    took: dict[str, float] = json.loads(text)
    return {name: seconds * 1000 for name, seconds in took.items()}
