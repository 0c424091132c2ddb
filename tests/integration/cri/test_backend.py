"""What the streaming server executes: exec and attach with real streams, ports inside a pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sampan.cri.backend import CriBackend
from sampan.cri.events import Events
from sampan.cri.figures import Figures
from sampan.cri.serving import handlers
from sampan.cri.streaming import Size
from sampan.errors import FailedPrecondition
from sampan.testing import requires

pytestmark = requires("root", "busybox")


class Typing:
    """A Reader: what a client types, until it ends."""

    def __init__(self, *parts: bytes, end: bool = True) -> None:
        self._parts = list(parts)
        self._end = end

    async def read(self, limit: int = 1 << 15) -> bytes:
        if self._parts:
            return self._parts.pop(0)
        if not self._end:
            await asyncio.Event().wait()
        return b""


class Screen:
    """A Writer that keeps what it was sent."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionError
        self.data += data

    async def close(self) -> None:
        self.closed = True


async def sizes(*wanted: Size) -> AsyncIterator[Size]:
    for one in wanted:
        yield one
    await asyncio.Event().wait()


async def test_exec(kubelet: Any) -> None:
    backend = CriBackend(kubelet.cri)
    container = await kubelet.run(await kubelet.run_pod())
    out, err = Screen(), Screen()
    code = await backend.exec(
        container, ["sh", "-c", "cat; echo bad >&2; exit 6"], tty=False,
        stdin=Typing(b"typed ", b"twice\n"), stdout=out, stderr=err, resize=sizes(),
    )  # fmt: skip
    assert (code, out.data, err.data) == (6, b"typed twice\n", b"bad\n")


async def test_exec_with_a_terminal(kubelet: Any) -> None:
    backend = CriBackend(kubelet.cri)
    container = await kubelet.run(await kubelet.run_pod())
    out = Screen()
    script = "while [ \"$(stty size)\" != '40 100' ]; do sleep 0.01; done; echo $TERM"
    code = await backend.exec(
        container, ["sh", "-c", script], tty=True, stdin=Typing(end=False), stdout=out,
        stderr=None, resize=sizes(Size(100, 40)),
    )  # fmt: skip
    assert (code, out.data) == (0, b"xterm\n")


async def test_a_client_who_goes_ends_the_process(kubelet: Any) -> None:
    backend = CriBackend(kubelet.cri)
    container = await kubelet.run(await kubelet.run_pod())
    work = asyncio.ensure_future(
        backend.exec(
            container, ["sleep", "4567"], tty=False, stdin=None, stdout=Screen(), stderr=None,
            resize=sizes(),
        )
    )  # fmt: skip
    listed = ""
    while "sleep 4567" not in listed:
        listed = (await kubelet.exec(container, "ps", "-o", "args")).stdout.decode()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    listed = (await kubelet.exec(container, "ps", "-o", "args")).stdout.decode()
    assert "sleep 4567" not in listed


async def test_attach_of_two(kubelet: Any) -> None:
    backend = CriBackend(kubelet.cri)
    script = "while read line; do echo got $line; [ $line = end ] && exit 3; done"
    container = await kubelet.run(
        await kubelet.run_pod(), "sh", "-c", script, stdin=True, stdin_once=True
    )
    watching, typing, gone = Screen(), Screen(), Screen()
    first = asyncio.ensure_future(
        backend.attach(
            container, tty=False, stdin=None, stdout=watching, stderr=None, resize=sizes()
        )
    )
    left = asyncio.ensure_future(
        backend.attach(container, tty=False, stdin=None, stdout=gone, stderr=None, resize=sizes())
    )
    await asyncio.sleep(0)
    gone.closed = True  # hung up without a word
    second = asyncio.ensure_future(
        backend.attach(
            container, tty=False, stdin=Typing(b"one\n", b"end\n"), stdout=typing, stderr=None,
            resize=sizes(),
        )
    )  # fmt: skip
    async with asyncio.timeout(20):
        await asyncio.gather(first, second, left)
    assert typing.data == watching.data == b"got one\ngot end\n"
    assert kubelet.log(container) == "got one\ngot end\n"
    assert (await kubelet.status(container)).exit_code == 3
    with pytest.raises(FailedPrecondition):
        await backend.attach(
            container, tty=False, stdin=None, stdout=None, stderr=None, resize=sizes()
        )


class Line:
    """A Duplex: what goes to the port, and what comes back."""

    def __init__(self, data: bytes) -> None:
        self.sent = Typing(data)
        self.got = Screen()
        self.read = self.sent.read
        self.write = self.got.write
        self.close = self.got.close


async def test_ports_inside_a_pod(open_kubelet: Any, bridge: str) -> None:
    from sampan.api.cri.v1 import api_pb2 as pb

    async with open_kubelet(cni=bridge) as kubelet:
        pod = await kubelet.run_pod(kubelet.pod_config(namespaces={"network": pb.POD}))
        try:
            script = "echo listening; nc -l -p 8081 -e cat"
            container = await kubelet.run(pod, "sh", "-c", script)
            await kubelet.until(lambda: "listening" in kubelet.log(container))
            backend = CriBackend(kubelet.cri)
            line = Line(b"echoed")
            async with asyncio.timeout(20):
                while line.got.data != b"echoed":
                    line = Line(b"echoed")
                    try:
                        await backend.port_forward(pod, 8081, line)
                    except Exception:  # noqa: BLE001  not yet listening
                        await asyncio.sleep(0.05)
            await kubelet.stop_pod(pod)
            with pytest.raises(FailedPrecondition):
                await backend.port_forward(pod, 8081, Line(b""))
        finally:
            await kubelet.remove_pod(pod)


async def test_rooms(kubelet: Any) -> None:
    """A daemon's hook opens all of it, and closes it with its background work."""
    assert isinstance(kubelet.cri.figures, Figures)
    assert isinstance(kubelet.cri.events, Events)
    engine = kubelet.cri.engine
    services = await handlers(engine)
    assert len(services) == 2
    background = asyncio.ensure_future(engine.background())
    await asyncio.sleep(0)
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)
