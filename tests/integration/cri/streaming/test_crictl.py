"""crictl, Kubernetes' own command line, on a real CRI: exec, attach, port-forward, figures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.server import Server

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.testing import requires

pytestmark = requires("root", "busybox", "crictl")


class Crictl:
    """The command, and the kubelet whose CRI it speaks to."""

    def __init__(self, kubelet: Any, socket: Path) -> None:
        self.kubelet = kubelet
        self._socket = socket

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        endpoint = f"unix://{self._socket}"
        return await asyncio.create_subprocess_exec(
            *("crictl", "-r", endpoint, "-i", endpoint, "-t", "30s"),
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        )

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        process = await self.start(*arguments)
        try:
            async with asyncio.timeout(40):
                out, err = await process.communicate(stdin)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return await process.wait(), out, err


@contextlib.asynccontextmanager
async def serving(kubelet: Any) -> AsyncIterator[Crictl]:
    path = kubelet.folder / "cri.sock"
    server = Server(list(kubelet.cri.services()))
    await server.start(path=str(path))
    try:
        yield Crictl(kubelet, path)
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
async def test_exec(kubelet: Any, transport: str) -> None:
    container = await kubelet.run(await kubelet.run_pod())
    async with serving(kubelet) as crictl:
        how = ("exec", "-r", transport, "-i", container)
        data = os.urandom(500_000)
        assert (await crictl(*how, "cat", stdin=data))[:2] == (0, data)
        code, out, err = await crictl(*how, "sh", "-c", "echo out; echo err >&2; exit 5")
        assert (code != 0, out, b"err\n" in err) == (True, b"out\n", True)
        assert b"exit code 5" in err or b"exit status 5" in err
        code, out, _ = await crictl("exec", "-s", container, "echo", "sync")
        assert (code, out.strip()) == (0, b"sync")


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
async def test_attach(kubelet: Any, transport: str) -> None:
    command = ("sh", "-c", "while read line; do echo got $line; done; echo bye")
    container = await kubelet.run(await kubelet.run_pod(), *command, stdin=True, stdin_once=True)
    async with serving(kubelet) as crictl:
        code, out, _ = await crictl("attach", "-r", transport, "-i", container, stdin=b"a\nb\n")
        assert (code, out) == (0, b"got a\ngot b\nbye\n")


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
async def test_port_forward(open_kubelet: Any, bridge: str, transport: str) -> None:
    async with open_kubelet(cni=bridge) as kubelet, serving(kubelet) as crictl:
        pod = await kubelet.run_pod(kubelet.pod_config(namespaces={"network": pb.POD}))
        script = "while :; do nc -l -p 8080 -e cat; done"
        config = kubelet.container_config("sh", "-c", script)
        options = pb.NamespaceOption(network=pb.POD, pid=pb.CONTAINER)
        config.linux.security_context.namespace_options.CopyFrom(options)
        container = await kubelet.create(pod, config)
        await kubelet.start(container)
        listening = ("sh", "-c", "until netstat -ltn | grep -q :8080; do sleep 0.01; done")
        await kubelet.exec(container, *listening, timeout=20)
        process = await crictl.start("port-forward", "-r", transport, pod, "0:8080")
        assert process.stdout
        try:
            async with asyncio.timeout(40):
                line = (await process.stdout.readline()).decode()
                port = int(line.split("127.0.0.1:")[1].split()[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                data = os.urandom(200_000)
                writer.write(data)
                writer.write_eof()
                assert await reader.read(-1) == data
                writer.close()
                await writer.wait_closed()
        finally:
            process.terminate()
            await process.communicate()
        await kubelet.remove_pod(pod)


async def test_stats_and_metrics(kubelet: Any) -> None:
    pod = await kubelet.run_pod()
    container = await kubelet.run(pod)
    async with serving(kubelet) as crictl:
        code, out, err = await crictl("stats", "-o", "json", "-s", "0")
        assert code == 0, err
        (one,) = json.loads(out)["stats"]
        assert one["attributes"]["id"] == container
        assert int(one["memory"]["workingSetBytes"]["value"]) > 0
        code, out, err = await crictl("statsp", "-o", "json", "-s", "0")
        assert code == 0, err
        assert json.loads(out)["stats"][0]["attributes"]["id"] == pod
        code, out, err = await crictl("metricsp")
        assert code == 0, err
        assert b"container_threads" in out
        code, out, err = await crictl("metricdescs")
        assert code == 0, err
        assert b"container_memory_working_set_bytes" in out
