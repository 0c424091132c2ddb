"""From options to requests and processes."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.model.runtime.process import Process, User
from sampan.sandbox.making import (
    Options,
    environment,
    mounts_of,
    networking_of,
    process_json,
    request_of,
)
from sampan.sandbox.values import Mount


def test_a_sandbox_without_a_command_waits(tmp_path: Path) -> None:
    request = request_of(Options(image="x", memory="1M", pids=3, user="u"), tmp_path)
    assert request.entrypoint == ("/dev/init",)
    assert request.limits.memory_bytes == 1 << 20
    assert (request.limits.pids, request.user, request.network) == (3, "u", "none")
    assert [volume.target for volume in request.volumes] == ["/dev/init"]


def test_commands(tmp_path: Path) -> None:
    assert request_of(Options(image="x", command=()), tmp_path).entrypoint is None
    given = request_of(Options(image="x", command=("a", "b")), tmp_path)
    assert (given.entrypoint, given.args, given.volumes) == ((), ("a", "b"), ())


def test_networks(tmp_path: Path) -> None:
    assert networking_of(Options(image="x")) is None
    assert request_of(Options(image="x", network="host"), tmp_path).network == "host"
    wanted = networking_of(Options(image="x", network="n", ports={80: 8080}))
    assert wanted is not None
    assert (wanted.names, wanted.ports[0].container, wanted.ports[0].host) == (("n",), 80, 8080)


@pytest.mark.parametrize(
    "options",
    [
        Options(image="x", labels={"sampan/rm": "true"}),
        Options(image="x", cpus=0),
        Options(image="x", pids=0),
        Options(image="x", ports={80: 80}),
        Options(image="x", mounts=["/no/such:/x"]),
        Options(image="x", env={"A=B": "c"}),
        Options(image="x", memory="lots"),
    ],
)
def test_what_can_never_be(options: Options) -> None:
    with pytest.raises(InvalidArgument):
        options.check()


def test_mounts(tmp_path: Path) -> None:
    bind, tmpfs = mounts_of([f"{tmp_path}:/x:ro", Mount("", "/t", options=("size=1m",))])
    assert (bind.source, bind.target, bind.options) == (str(tmp_path), "/x", ("ro",))
    assert (tmpfs.type, tmpfs.options) == ("tmpfs", ("size=1m",))
    assert mounts_of({str(tmp_path): "/y"})[0].target == "/y"


def test_processes_are_the_containers_own_but_for_what_is_given() -> None:
    template = Process(args=("init",), env=("A=1", "B=2"), cwd="/w", user=User(uid=5))
    made = process_json(template, ("ls",), env={"B": "3"}, cwd="", user=None, tty=True)
    assert made["args"] == ["ls"]
    assert made["env"] == ["A=1", "B=3", "TERM=xterm"]
    assert (made["cwd"], made["user"]["uid"], made["terminal"]) == ("/w", 5, True)
    for args, cwd in (((), ""), (("a\0",), ""), (("a",), "rel")):
        with pytest.raises(InvalidArgument):
            process_json(template, args, env=None, cwd=cwd, user=None, tty=False)


def test_environments() -> None:
    assert environment({"A": "b=c"}) == ("A=b=c",)
    for name, value in (("", "x"), ("A=", "x"), ("A", "\0")):
        with pytest.raises(InvalidArgument, match="environment variable"):
            environment({name: value})
