"""What the rpcs share, as far as no engine is needed."""

from __future__ import annotations

import pytest

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.core import _find, _slice_path, _sum
from sampan.cri.services import _check_streams, _chunks
from sampan.errors import InvalidArgument


def test_finding_by_the_beginning_of_an_id() -> None:
    table = {"abc": 1, "abd": 2, "xyz": 3}
    assert _find(table, "abc", "pod") == 1
    assert _find(table, "x", "pod") == 3
    assert _find(table, "q", "pod") is None
    assert _find(table, "", "pod") is None
    with pytest.raises(InvalidArgument, match="2 ids"):
        _find(table, "ab", "pod")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("kubepods.slice", "/kubepods.slice"),
        ("kubepods-pod1.slice", "/kubepods.slice/kubepods-pod1.slice"),
        ("/a.slice/a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
    ],
)
def test_slices(name: str, path: str) -> None:
    assert _slice_path(name) == path


def test_a_pod_may_use_its_overhead_too() -> None:
    one = pb.LinuxContainerResources(memory_limit_in_bytes=10, cpu_quota=-1, cpu_shares=2)
    two = pb.LinuxContainerResources(memory_limit_in_bytes=5, cpu_quota=7)
    total = _sum(one, two)
    assert (total.memory_limit_in_bytes, total.cpu_quota, total.cpu_shares) == (15, -1, 2)


def test_lists_are_sent_in_pieces() -> None:
    assert list(_chunks([])) == []
    assert [len(some) for some in _chunks(range(2500))] == [1000, 1000, 500]


def test_streams_that_make_no_sense() -> None:
    with pytest.raises(InvalidArgument):
        _check_streams(pb.ExecRequest(), tty=False)
    with pytest.raises(InvalidArgument):
        _check_streams(pb.ExecRequest(stdout=True, stderr=True), tty=True)
    _check_streams(pb.ExecRequest(stdout=True, stderr=True), tty=False)
