"""What is generated has the signatures of what it stands for."""

import inspect

import pytest

from sampan.sandbox import box, process, sync


@pytest.mark.parametrize("name", ["run", "exec", "write", "fork", "upload", "commit", "__init__"])
def test_signatures(name: str) -> None:
    one = inspect.signature(getattr(box.Sandbox, name)).parameters
    other = inspect.signature(getattr(sync.Sandbox, name)).parameters
    assert list(one) == list(other)
    assert [p.default for p in one.values()] == [p.default for p in other.values()]


def test_it_is_not_asynchronous() -> None:
    for kind in (sync.Sandbox, sync.Process, sync.Client):
        for name, value in vars(kind).items():
            assert not inspect.iscoroutinefunction(value), name
    assert inspect.getdoc(sync.Process.wait) == inspect.getdoc(process.Process.wait)
