# ruff: noqa: ASYNC110, ASYNC221
"""A sandbox as its users see it."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.sandbox.box import Sandbox
from sampan.sandbox.clients import Client, in_process
from sampan.sandbox.values import CalledProcessError, Mount, TimeoutExpired
from sampan.testing import requires

pytestmark = requires("root")


async def test_run_is_shaped_as_subprocess_run(client: Client) -> None:
    async with client.sandbox("host:", env={"A": "1"}) as box:
        done = await box.run(
            "sh", "-c", "cat; echo $A$B; pwd; echo oops >&2; exit 3", input="in ", env={"B": "2"},
            cwd="/tmp",
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (3, b"in 12\n/tmp\n", b"oops\n")
        assert done.text == "in 12\n/tmp\n"
        with pytest.raises(CalledProcessError, match="status 3: oops"):
            await box.run("sh", "-c", "echo oops >&2; exit 3", check=True)


async def test_what_cannot_run_says_so(client: Client) -> None:
    async with client.sandbox("host:") as box:
        with pytest.raises(FailedPrecondition, match="not found"):
            await box.run("nosuchprogram")
        with pytest.raises(InvalidArgument, match="no command"):
            await box.run()
        with pytest.raises(InvalidArgument, match="no user 'nobodyatall'"):
            await box.run("true", user="nobodyatall")
        assert (await box.run("true")).returncode == 0


async def test_users_are_the_containers_own(client: Client) -> None:
    async with client.sandbox("host:") as box:
        assert (await box.run("id", "-un", user="nobody")).text == "nobody\n"
        assert (await box.run("id", "-u", user="1234:99")).text == "1234\n"


async def test_output_beyond_the_limit_is_thrown_away(client: Client) -> None:
    async with client.sandbox("host:") as box:
        done = await box.run("head", "-c", "300000", "/dev/zero", output_limit=1000)
        assert (len(done.stdout), done.truncated) == (1000, True)
        done = await box.run("head", "-c", "3000000", "/dev/zero")
        assert (len(done.stdout), done.truncated) == (3_000_000, False)


async def test_what_stays_in_the_background_holds_nobody_up(client: Client) -> None:
    async with client.sandbox("host:") as box:
        async with asyncio.timeout(8):
            done = await box.run("sh", "-c", "sleep 1000 & echo begun")
        assert done.stdout == b"begun\n"


async def test_its_first_process_waits_and_reaps(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.run("sh", "-c", "(sleep 0.05 &) & true")
        async with asyncio.timeout(10):
            while (
                b"Z" in (await box.run("sh", "-c", "cat /proc/[0-9]*/stat | cut -d' ' -f3")).stdout
            ):
                await asyncio.sleep(0.05)


async def test_limits_are_the_kernels(client: Client) -> None:
    async with client.sandbox("host:", memory="32M", pids=20) as box:
        script = "x=x; while true; do x=$x$x; done"
        assert (await box.run("sh", "-c", script)).returncode == 137
        assert (
            "fork"
            in (
                await box.run("sh", "-c", "for i in $(seq 40); do sleep 9 & done; true")
            ).stderr.decode()
        )
        stats = await box.stats()
        assert stats.memory_limit_bytes == 32 << 20


async def test_mounts_are_where_they_should_be(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    mounts = [f"{tmp_path}:/in:ro", Mount(str(tmp_path), "/out"), Mount("", "/mem")]
    async with client.sandbox("host:", mounts=mounts) as box:
        assert (await box.run("cat", "/in/a")).text == "mine"
        assert (await box.run("touch", "/in/b")).returncode != 0
        await box.run("touch", "/out/b", "/mem/c", check=True)
    assert (tmp_path / "b").exists()
    with pytest.raises(InvalidArgument, match="does not exist"):
        client.sandbox("host:", mounts={"/no/such/folder": "/x"})


async def test_there_is_no_network_unless_asked_for(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        async with client.sandbox("host:") as box:
            done = await box.run("python3", "-c", script)
            assert b"ConnectionRefused" in done.stderr
        async with client.sandbox("host:", network="host") as box:
            await box.run("python3", "-c", script, check=True)


async def test_a_command_of_its_own_is_logged_and_waited_for(client: Client) -> None:
    box = client.sandbox("host:", command=["sh", "-c", "echo one; echo two >&2; exit 5"])
    async with box:
        assert await box.wait() == 5
        assert sorted((await box.logs()).splitlines()) == [b"one", b"two"]
        assert sorted([line async for line in box.follow_logs()]) != []
        with pytest.raises(FailedPrecondition, match="status 5"):
            await box.run("true")


async def test_pause_stops_time(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.pause()
        running = asyncio.create_task(box.run("true"))
        done, _ = await asyncio.wait((running,), timeout=0.3)
        if done:  # an exec into a paused container may be refused, too
            assert isinstance(running.exception(), FailedPrecondition)
        await box.resume()
        if not done:
            assert (await running).returncode == 0
        assert (await box.run("true")).returncode == 0


async def test_kill_ends_it_and_the_files_stay(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.kill()
        assert await box.wait() == 137
        with pytest.raises(FailedPrecondition, match="ended with status 137"):
            await box.run("true")


async def test_names_are_ones_own(client: Client) -> None:
    async with client.sandbox("host:", name="alone") as box:
        assert box.name == "alone"
        assert [one.name for one in await client.sandboxes()] == ["alone"]
        with pytest.raises(AlreadyExists, match="alone"):
            await client.sandbox("host:", name="alone").start()


async def test_an_image_that_is_not_here(client: Client) -> None:
    with pytest.raises(NotFound, match="pull it first"):
        await client.sandbox("example.invalid/no/such:1", pull="never").start()
    assert await client.sandboxes() == []


async def test_two_processes_see_each_others(client: Client, root: Path, state: Path) -> None:
    """Many share one root, and none locks the others out."""
    program = """
import sys, sampan
with sampan.in_process(root=sys.argv[1], state=sys.argv[2]) as client:
    print(*[one.name for one in client.sandboxes()])
    box = client.attach("shared")
    print(box.run("cat", "/note").text)
    box.close()
"""
    async with client.sandbox("host:", name="shared") as box:
        await box.write("/note", "from one to another")
        argv = [sys.executable, "-c", program, str(root), str(state)]
        done = await asyncio.to_thread(
            subprocess.run, argv, capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "shared\nfrom one to another\n", done.stderr
        assert (await box.run("true")).returncode == 0


async def test_neither_protobuf_nor_grpclib_is_loaded(root: Path, state: Path) -> None:
    program = """
import sys, sampan
with sampan.in_process(root=sys.argv[1], state=sys.argv[2]) as client:
    with client.sandbox("host:") as box:
        box.run("true"), box.write("/a", "b"), box.fork().close(), box.diff(), box.stats()
print([name for name in ("grpclib", "google.protobuf") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(root), str(state)], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


async def test_the_client_must_be_open(root: Path, state: Path) -> None:
    client = in_process(root=root, state=state)
    with pytest.raises(FailedPrecondition, match="not open"):
        await client.sandboxes()
    with pytest.raises(FailedPrecondition, match="has not started"):
        _ = Sandbox("host:", client=client).id


async def test_timeouts_are_the_callers_own_too(client: Client) -> None:
    """An outer timeout is no TimeoutExpired of ours."""
    async with client.sandbox("host:") as box:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await box.run("sleep", "1000", timeout=60)
        with pytest.raises(TimeoutExpired):
            await box.run("sleep", "1000", timeout=0.2)


def test_forked_children_may_use_it_too(root: Path, state: Path) -> None:
    """multiprocessing forks: the thread behind the synchronous face is made anew there."""
    program = """
import os, sys, sampan
with sampan.in_process(root=sys.argv[1], state=sys.argv[2]) as client:
    with client.sandbox("host:") as box:
        box.run("true")
        pid = os.fork()
        if pid == 0:
            with sampan.in_process(root=sys.argv[1], state=sys.argv[2]) as other:
                with other.sandbox("host:") as mine:
                    os._exit(mine.run("sh", "-c", "exit 7").returncode)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), box.run("true").returncode)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(root), str(state)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.stdout == "7 0\n", done.stderr
