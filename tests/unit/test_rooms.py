"""The house itself: every source file has its test file, no module is too long, no copy is kept.

What falls short is listed in tests/debts.txt, which may only shrink. `SAMPAN_WRITE_DEBTS=1 pytest
tests/unit/test_rooms.py` writes it anew; a reviewer sees then which way it went.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampan

SOURCE = Path(sampan.__file__).parent
TESTS = Path(__file__).parents[1]
DEBTS = TESTS / "debts.txt"
LEVELS = ("unit", "kernel", "integration", "conformance")
MOST_LINES = 500

TESTED_ELSEWHERE = {
    "testing/plugin.py": "every test runs it; test_inventory.py and test_skips.py start another",
    "testing/leaks.py": "tests/kernel/testing/test_inventory.py: another pytest runs leaky tests",
    "testing/fixtures.py": "every test of a runtime uses them",
    "testing/session.py": "tests/kernel/testing/test_inventory.py plants by its tag",
    "testing/bundle.py": "tests/kernel/testing/test_runtimes.py runs bundles on every runtime",
    "testing/rootfs.py": "tests/kernel/testing/test_runtimes.py runs programs in it",
    "testing/registry.py": "the tests of distribution pull from and push to it",
    "testing/networks.py": "the tests of network stand on it, and compare the originals by it",
    "testing/streaming.py": "the tests of cri/streaming connect through it, as Go's clients do",
    "testing/certificate.py": "tests/conformance/birth compares runc with itself first",
    "testing/attacker.py": "tests/conformance/birth/test_attacks.py lets it succeed once",
}
"""Source files without a test file of their name, and where they are tested instead."""


def sources() -> Iterator[Path]:
    """Our own modules: not generated code, not front doors, which hold no behaviour, not suites."""
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE)
        shared = path.name in ("__init__.py", "__main__.py") or path.name.endswith("_suite.py")
        if relative.parts[0] != "api" and not shared:
            yield relative


@functools.cache
def files_of(room: str) -> dict[Path, str]:
    """Return the test files of a room with their text, over all levels."""
    found: dict[Path, str] = {}
    for level in LEVELS:
        for path in (*(TESTS / level / room).rglob("test_*.py"), TESTS / level / f"test_{room}.py"):
            if path.exists():
                found[path] = path.read_text()
    return found


def has_test(source: Path) -> bool:
    """Of `room/part/module.py`: test_module.py, test_part.py, test_part_module.py, or an import.

    The test stands in tests/LEVEL/room, at any level.
    """
    if str(source) in TESTED_ELSEWHERE:
        return True
    stem = source.stem.lstrip("_")
    parts = source.parts[1:-1]
    names = {f"test_{name}.py" for name in (stem, *parts, "_".join((*parts, stem)))}
    room = source.parts[0] if len(source.parts) > 1 else stem
    module = ".".join(("sampan", *source.with_suffix("").parts))
    package = re.escape(module.rpartition(".")[0])
    imports = re.compile(
        rf"\b{re.escape(module)}\b|from {package} import \(?[\w, \n]*\b{source.stem}\b"
    )
    return any(path.name in names or imports.search(text) for path, text in files_of(room).items())


def copies() -> Iterator[str]:
    """Name functions of some size whose body stands in two places."""
    homes: dict[str, list[str]] = defaultdict(list)
    for relative in sources():
        for node in ast.walk(ast.parse((SOURCE / relative).read_bytes())):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            body = [ast.dump(part) for part in node.body if not _is_docstring(part)]
            if sum(map(len, body)) >= 800:  # a few lines alike are no copy
                digest = hashlib.sha256("".join(body).encode()).hexdigest()
                homes[digest].append(f"{relative}:{node.name}")
    for places in homes.values():
        if len(places) > 1:
            yield " = ".join(places)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def found_debts() -> set[str]:
    long = (p for p in sources() if len((SOURCE / p).read_bytes().splitlines()) > MOST_LINES)
    return {
        *(f"untested {path}" for path in sources() if not has_test(path)),
        *(f"long {path}" for path in long),
        *(f"twice {places}" for places in copies()),
    }


@pytest.fixture(scope="module")
def debts() -> set[str]:
    found = found_debts()
    if os.environ.get("SAMPAN_WRITE_DEBTS") == "1":
        DEBTS.write_text("".join(f"{line}\n" for line in sorted(found)))
    return found


def listed() -> set[str]:
    return set(DEBTS.read_text().splitlines())


def test_no_new_debt(debts: set[str]) -> None:
    """`untested`: add a test file. `long`: split it. `twice`: move it to a room below both."""
    assert sorted(debts - listed()) == []


def test_what_is_paid_is_struck_off(debts: set[str]) -> None:
    assert sorted(listed() - debts) == [], "SAMPAN_WRITE_DEBTS=1 strikes these off"


def test_exceptions_are_still_needed() -> None:
    assert set(TESTED_ELSEWHERE) <= {str(path) for path in sources()}
