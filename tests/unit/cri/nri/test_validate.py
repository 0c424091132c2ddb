"""The administrator's limits for what plugins may change."""

from __future__ import annotations

import pytest

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import NriConfig
from sampan.cri.nri.owners import Owners
from sampan.cri.nri.validate import REQUIRED_ANNOTATION, check, required
from sampan.errors import FailedPrecondition, InvalidArgument, PermissionDenied, SampanError

CONTAINER = pb.Container(id="c", name="ctr")


def owners() -> Owners:
    made = Owners()
    made.add("c", pb.Field.OciHooks, "10-a")
    made.claim("c", pb.Field.SeccompPolicy, "20-b")
    made.clear("c", pb.Field.Namespace, "30-c", "pid")
    made.claim("c", pb.Field.Sysctl, "40-d", "net.x")
    return made


@pytest.mark.parametrize(
    ("config", "who"),
    [
        (NriConfig(allow_hooks=False), "10-a"),
        (NriConfig(refuse_seccomp=("unconfined",)), "20-b"),
        (NriConfig(allow_namespaces=False), "30-c"),
        (NriConfig(allow_sysctl=False), "40-d"),
    ],
)
def test_what_is_not_allowed(config: NriConfig, who: str) -> None:
    with pytest.raises(PermissionDenied, match=f"plugin {who} may not"):
        check(config, pb.PodSandbox(), CONTAINER, owners(), [])
    check(config, pb.PodSandbox(), CONTAINER, Owners(), [])
    check(NriConfig(), pb.PodSandbox(), CONTAINER, owners(), [])


def test_seccomp_by_the_kind_of_profile() -> None:
    confined = pb.Container(id="c", name="ctr")
    confined.linux.seccomp_profile.profile_type = pb.SecurityProfile.LOCALHOST
    check(NriConfig(refuse_seccomp=("unconfined",)), pb.PodSandbox(), confined, owners(), [])
    with pytest.raises(PermissionDenied, match="it is localhost"):
        check(NriConfig(refuse_seccomp=("localhost",)), pb.PodSandbox(), confined, owners(), [])


def test_required_plugins() -> None:
    config = NriConfig(required_plugins=("a",))
    pod = pb.PodSandbox(annotations={REQUIRED_ANNOTATION: '["b", "c"]'})
    with pytest.raises(FailedPrecondition, match="not registered: a, c"):
        check(config, pod, CONTAINER, Owners(), ["b"])
    check(config, pod, CONTAINER, Owners(), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('["a"]', ["a"]),
        ("[a, 'b']", ["a", "b"]),
        ("- a\n- 'b'\n", ["a", "b"]),
        ("", []),
        ("{}", InvalidArgument),
        ("[1]", InvalidArgument),
        ("just text", InvalidArgument),
    ],
)
def test_the_annotation(text: str, names: list[str] | type[SampanError]) -> None:
    pod = pb.PodSandbox(annotations={f"{REQUIRED_ANNOTATION}/container.ctr": text})
    if isinstance(names, list):
        assert required(NriConfig(), pod, CONTAINER) == names
        assert required(NriConfig(), pod, pb.Container(name="other")) == []
    else:
        with pytest.raises(names):
            required(NriConfig(), pod, CONTAINER)
