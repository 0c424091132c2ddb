"""The checks, one session each. `nox` runs those that `make test` needs; `nox -l` lists all.

All sessions share the environment that `make` has made: nox runs them with --no-venv, so that
nothing is installed twice. Tests run one at a time, since kernel tests share the machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
TESTS = "tests"
SKIPS = "tests/allowed-skips.txt"
GENERATED = "src/sampan/api"

os.environ["PATH"] = f"{BIN}:{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "imports", "proto", "docs", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, spelling."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "codespell", "src", "tests", "docs", "proto", "bench", *HERE.glob("*.md"))


@nox.session
def types(session: nox.Session) -> None:
    """Types of the package and of its tests."""
    run(session, "mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """The layers of ARCHITECTURE.md."""
    run(session, "lint-imports")


@nox.session
def proto(session: nox.Session) -> None:
    """What proto/ makes is what src/sampan/api holds; `make proto` writes it."""
    run(session, "python", "proto/generate.py", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages made of the program are current, and the site builds with every link whole."""
    run(session, "python", "docs/generate.py", "--check")
    session.env["NO_MKDOCS_2_WARNING"] = "1"
    run(session, "mkdocs", "build", "--quiet")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, in one process; the last line is pytest's."""
    pytest(session, *(f"tests/{level}" for level in LEVELS))


@nox.session
def unit(session: nox.Session) -> None:
    """No root, 0.1 s each, 30 s in all."""
    pytest(session, "tests/unit")


@nox.session
def kernel(session: nox.Session) -> None:
    """One family of system calls, or one store, on the real kernel."""
    pytest(session, "tests/kernel")


@nox.session
def integration(session: nox.Session) -> None:
    """Our programs."""
    pytest(session, "tests/integration")


@nox.session
def conformance(session: nox.Session) -> None:
    """The specifications, and the original programs across each seam."""
    pytest(session, "tests/conformance")


@nox.session
def soak(session: nox.Session) -> None:
    """Every test, those with random, kills and load at full size."""
    session.env["SAMPAN_SOAK"] = "1"
    pytest(session, "tests")


@nox.session
def vm(session: nox.Session) -> None:
    """The tests that need cgroup v2 with every controller, systemd, AppArmor or a CRIU that works.

    They run in a virtual machine with Debian's own kernel; half an hour without hardware help.
    """
    run(session, "python", "tests/vm/run.py", "--timeout-s", "1800", *session.posargs)


LEVELS = ("unit", "kernel", "integration", "conformance")


def run(session: nox.Session, *command: str | Path) -> None:
    """Run a program of the shared environment in the checkout."""
    program, *args = map(str, command)
    session.run(str(BIN / program), *args, external=True)


def pytest(session: nox.Session, *paths: str) -> None:
    """Run tests; where all needs should be met, a skip must be on the list."""
    present = [path for path in paths if any((HERE / path).rglob("test_*.py"))]
    strict = ["--require-all", SKIPS] if os.environ.get("CI") == "true" else []
    options = [*strict, "--durations=25", "--durations-min=1", *session.posargs]
    run(session, "python", "-m", "pytest", *present, *options)
