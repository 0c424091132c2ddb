"""The pytest plugin: needs, allowed skips, leak fixtures, and the fixtures of runtime tests.

`-p sampan.testing.plugin` in pyproject.toml loads it before any conftest.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from sampan.testing import leaks, requirements
from sampan.testing.session import SESSION
from sampan.testing.skips import AllowedSkips

pytest_plugins = ("sampan.testing.fixtures",)

_ALLOWED = pytest.StashKey[AllowedSkips]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sampan")
    group.addoption(
        "--require-all",
        metavar="FILE",
        help="fail every skipped test that FILE does not allow, with a reason",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*needs): skip unless the machine has all of these")
    config.addinivalue_line("markers", "leaks_allowed(reason): do not judge what this test leaves")
    SESSION.isolate()
    listed = config.getoption("--require-all")
    if listed:
        config.stash[_ALLOWED] = AllowedSkips.read(Path(listed))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    needs = [need for mark in item.iter_markers("requires") for need in mark.args]
    requirements.require(*dict.fromkeys(needs))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    allowed = item.config.stash.get(_ALLOWED, None)
    if allowed is not None and report.skipped and not hasattr(report, "wasxfail"):
        allowed.judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    allowed = collector.config.stash.get(_ALLOWED, None)
    if allowed is not None and report.skipped:
        allowed.judge(report)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Write the counts to $SAMPAN_TEST_SUMMARY: `make test` shows them as its last line."""
    path = os.environ.get("SAMPAN_TEST_SUMMARY")
    if path and not config.getoption("collectonly"):
        counts = {
            kind: len(terminalreporter.getreports(kind))
            for kind in ("passed", "failed", "error", "skipped", "xfailed")
        }
        counts["failed"] += counts.pop("error")
        Path(path).write_text(", ".join(f"{n} {kind}" for kind, n in counts.items()) + "\n")


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test when something that it made is still there after its other fixtures ended.

    Autouse fixtures are set up after those of wider scope and before all others of the function,
    so what a module or session keeps for its tests is not counted; `no_leaks_in_session` does.
    """
    if request.node.get_closest_marker("leaks_allowed"):
        yield
        return
    scope = leaks.scope_for(request.node.path)
    before = leaks.snapshot(scope)
    yield
    leaks.judge(scope, before)


@pytest.fixture(autouse=True, scope="session")
def no_leaks_in_session() -> Iterator[None]:
    """The same for all that fixtures of wider scope made."""
    scope = leaks.scope_for(None)
    before = leaks.snapshot(scope)
    yield
    leaks.judge(scope, before)
    SESSION.close()
