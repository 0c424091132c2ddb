"""From flags and an image's config to a process, with docker's rules."""

from __future__ import annotations

import pytest

from sampan.client.spec.build import build, process_of
from sampan.client.spec.request import Request, Volume
from sampan.errors import InvalidArgument
from sampan.model.image import ContainerConfig

IMAGE = ContainerConfig(
    entrypoint=("/entry",), cmd=("a", "b"), env=("X=1", "Y=2"), working_dir="/w"
)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(), ("/entry", "a", "b")),
        (Request(args=("c",)), ("/entry", "c")),
        (Request(entrypoint=("/other",)), ("/other",)),
        (Request(entrypoint=("/other",), args=("c",)), ("/other", "c")),
        (Request(entrypoint=(), args=("c",)), ("c",)),
    ],
)
def test_entrypoint_and_command(request_: Request, expected: tuple[str, ...]) -> None:
    assert process_of(request_, IMAGE, ()).args == expected


def test_no_command() -> None:
    with pytest.raises(InvalidArgument, match="no command"):
        process_of(Request(), None, ())


def test_environment_later_wins_and_bare_name_unsets() -> None:
    env = process_of(Request(env=("X=9", "Y", "Z=3")), IMAGE, ()).env
    assert set(env) >= {"X=9", "Z=3"}
    assert not any(pair.startswith("Y=") for pair in env)


def test_capabilities() -> None:
    def caps(**flags: tuple[str, ...]) -> set[str]:
        spec = build(Request(args=("x",), **flags), None, id="i", namespace="n")  # type: ignore[arg-type]
        assert spec.process is not None
        assert spec.process.capabilities is not None
        assert spec.process.capabilities.inheritable == ()
        return set(spec.process.capabilities.bounding)

    assert "CAP_NET_ADMIN" in caps(cap_add=("net_admin",))
    assert caps(cap_drop=("ALL",)) == set()
    assert caps(cap_drop=("all",), cap_add=("CAP_KILL",)) == {"CAP_KILL"}
    assert "CAP_CHOWN" not in caps(cap_drop=("CHOWN",))
    with pytest.raises(InvalidArgument, match="unknown capability"):
        caps(cap_add=("FLY",))


def test_bad_mount_targets() -> None:
    for target in ("x", "/", "/a/.."):
        request = Request(args=("x",), volumes=(Volume("/tmp", target),))
        with pytest.raises(InvalidArgument):
            build(request, None, id="i", namespace="n")
