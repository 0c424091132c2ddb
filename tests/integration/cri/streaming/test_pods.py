"""Exec, attach and port-forward into real pods, from CRI call to exit status."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.testing import requires
from sampan.testing.streaming import until

pytestmark = requires("root", "busybox")

SUCCESS = {"metadata": {}, "status": "Success"}


async def exec_url(kubelet: Any, container: str, *command: str, **more: Any) -> str:
    request = pb.ExecRequest(container_id=container, cmd=command, **more)
    return str((await kubelet.runtime.Exec(request)).url)


async def test_exec(kubelet: Any, clients: Any) -> None:
    container = await kubelet.run(await kubelet.run_pod())
    command = ("sh", "-c", "cat; echo oops >&2; exit 9")
    url = await exec_url(kubelet, container, *command, stdin=True, stdout=True, stderr=True)
    client = await clients.spdy(url)
    await client.open("error", "stdin", "stdout", "stderr")
    data = os.urandom(3 << 20)

    async def send() -> None:
        await client.streams["stdin"].write(data)
        await client.streams["stdin"].close()

    sending = asyncio.get_running_loop().create_task(send())
    assert await client.all_of("stdout") == data
    await sending
    assert await client.all_of("stderr") == b"oops\n"
    status = json.loads(await client.all_of("error"))
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "9"}]


async def test_exec_with_a_terminal(kubelet: Any, clients: Any) -> None:
    container = await kubelet.run(await kubelet.run_pod())
    script = "until stty size | grep '^41 133'; do sleep 0.01; done"
    url = await exec_url(kubelet, container, "sh", "-c", script, tty=True, stdin=True, stdout=True)
    client = await clients.websocket(url)
    await client.send(4, b'{"Width":133,"Height":41}')
    await client.finished()
    assert b"41 133" in client.got[1]
    assert json.loads(client.got[3]) == SUCCESS


async def test_a_client_that_vanishes_leaves_no_process(kubelet: Any, clients: Any) -> None:
    container = await kubelet.run(await kubelet.run_pod())
    url = await exec_url(
        kubelet, container, "sh", "-c", "echo up; sleep 4321 & wait", stdin=True, stdout=True
    )
    client = await clients.spdy(url)
    await client.open("error", "stdin", "stdout")
    assert await client.streams["stdout"].read() == b"up\n"
    assert "sleep 4321" in (await kubelet.exec(container, "ps")).stdout.decode()
    await client.close()
    await until(lambda: not kubelet.cri.streaming.connections)
    assert "sleep 4321" not in (await kubelet.exec(container, "ps")).stdout.decode()


async def test_what_cannot_be_executed(kubelet: Any, clients: Any) -> None:
    container = await kubelet.run(await kubelet.run_pod())
    client = await clients.spdy(await exec_url(kubelet, container, "/no/such", stdout=True))
    await client.open("error", "stdout")
    status = json.loads(await client.all_of("error"))
    assert status["status"] == "Failure"
    assert "/no/such" in status["message"]


async def test_attach(kubelet: Any, clients: Any) -> None:
    pod = await kubelet.run_pod()
    command = ("sh", "-c", "while read line; do echo got $line; done; echo bye")
    container = await kubelet.run(pod, *command, stdin=True, stdin_once=True)
    request = pb.AttachRequest(container_id=container, stdin=True, stdout=True)
    client = await clients.spdy((await kubelet.runtime.Attach(request)).url)
    await client.open("error", "stdin", "stdout")
    await client.streams["stdin"].write(b"one\n")
    assert await client.streams["stdout"].read() == b"got one\n"
    await client.streams["stdin"].close()
    assert await client.all_of("stdout") == b"bye\n"
    assert json.loads(await client.all_of("error")) == SUCCESS
    await kubelet.ended(container)
    assert kubelet.log(container) == "got one\nbye\n"


async def test_port_forward(open_kubelet: Any, bridge: str, clients: Any) -> None:
    async with open_kubelet(cni=bridge) as kubelet:
        pod = await kubelet.run_pod(kubelet.pod_config(namespaces={"network": pb.POD}))
        config = kubelet.container_config("nc", "-l", "-p", "8080", "-e", "cat")
        options = pb.NamespaceOption(network=pb.POD, pid=pb.CONTAINER)
        config.linux.security_context.namespace_options.CopyFrom(options)
        container = await kubelet.create(pod, config)
        await kubelet.start(container)
        listening = ("sh", "-c", "until netstat -ltn | grep -q :8080; do sleep 0.01; done")
        await kubelet.exec(container, *listening, timeout=20)
        request = pb.PortForwardRequest(pod_sandbox_id=pod, port=[8080])
        url = (await kubelet.runtime.PortForward(request)).url
        client = await clients.spdy(url, "portforward.k8s.io")
        await client.open("error", "data", port="8080", requestID="0")
        data = os.urandom(300_000)

        async def send() -> None:
            await client.streams["data"].write(data)
            await client.streams["data"].close()

        sending = asyncio.get_running_loop().create_task(send())
        assert await client.all_of("data") == data
        await sending
        await kubelet.remove_pod(pod)
