"""What flags and an image amount to, docker's way."""

import pytest

from sampan.client.spec.build import build
from sampan.client.spec.request import Request, Volume
from sampan.errors import InvalidArgument
from sampan.model.image import ContainerConfig
from sampan.model.runtime.spec import Spec


def made(request: Request, image: ContainerConfig | None = None) -> Spec:
    return build(request, image, id="c" * 64, namespace="default")


@pytest.mark.parametrize(
    ("entrypoint", "args", "expected"),
    [
        (None, (), ("e1", "e2", "c1")),
        (None, ("a",), ("e1", "e2", "a")),
        (("x",), (), ("x",)),
        (("x",), ("a",), ("x", "a")),
        ((), ("a",), ("a",)),
    ],
)
def test_entrypoint_and_command(
    entrypoint: tuple[str, ...] | None, args: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    image = ContainerConfig(entrypoint=("e1", "e2"), cmd=("c1",))
    process = made(Request(entrypoint=entrypoint, args=args), image).process
    assert process is not None
    assert process.args == expected


def test_no_command_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no command"):
        made(Request())


def test_environment_of_flags_wins_over_the_images_over_ours() -> None:
    image = ContainerConfig(env=("A=image", "B=image", "PATH=/x"))
    process = made(Request(args=("a",), env=("A=flag",)), image).process
    assert process is not None
    values = dict(pair.split("=", 1) for pair in process.env)
    assert (values["A"], values["B"], values["PATH"]) == ("flag", "image", "/x")


@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        ((), ("ALL",), (), ("CAP_CHOWN",)),
        (("NET_ADMIN",), ("ALL",), ("CAP_NET_ADMIN",), ("CAP_CHOWN",)),
        (("cap_sys_admin",), (), ("CAP_SYS_ADMIN", "CAP_CHOWN"), ("CAP_BPF",)),
        (("ALL",), ("MKNOD",), ("CAP_BPF",), ("CAP_MKNOD",)),
        ((), ("chown",), ("CAP_KILL",), ("CAP_CHOWN",)),
    ],
)
def test_capabilities(
    add: tuple[str, ...], drop: tuple[str, ...], has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    process = made(Request(args=("a",), cap_add=add, cap_drop=drop)).process
    assert process is not None
    assert process.capabilities is not None
    bounding = process.capabilities.bounding
    assert all(name in bounding for name in has)
    assert not any(name in bounding for name in lacks)
    assert process.capabilities.inheritable == ()
    assert process.capabilities.ambient == ()


def test_image_content_decides_nothing_but_the_process() -> None:
    """Row 11: labels and volumes of an image are content."""
    image = ContainerConfig(
        cmd=("a",),
        labels={"containerd.io/restart.loguri": "binary:///bin/sh"},
        volumes={"/etc": {}},
    )
    plain = made(Request(), ContainerConfig(cmd=("a",)))
    assert made(Request(), image).to_json() == plain.to_json()


@pytest.mark.parametrize("target", ["relative", "/", "//", "/x/.."])
def test_bad_mount_targets(target: str) -> None:
    with pytest.raises(InvalidArgument):
        made(Request(args=("a",), volumes=(Volume("/tmp", target),)))
