"""The house itself: every source file has its test file, no module is too long, no copy is kept."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampan

SOURCE = Path(sampan.__file__).parent
TESTS = Path(__file__).parents[1]
LEVELS = ("unit", "kernel", "integration", "conformance")
MOST_LINES = 500

UNTESTED_BY_NAME = {
    "testing/plugin.py": "every test runs it; test_inventory.py and test_skips.py start another",
    "testing/leaks.py": "tests/kernel/testing/test_inventory.py: another pytest runs leaky tests",
    "testing/fixtures.py": "every test of a runtime uses them",
    "testing/session.py": "tests/kernel/testing/test_inventory.py plants by its tag",
    "testing/bundle.py": "tests/kernel/testing/test_runtimes.py runs bundles on every runtime",
    "testing/rootfs.py": "tests/kernel/testing/test_runtimes.py runs programs in it",
    "testing/registry.py": "the tests of distribution pull from and push to it",
    "testing/certificate.py": "tests/conformance/birth compares runc with itself first",
}
"""Source files without a test file of their name, and where they are tested instead."""


def sources() -> Iterator[Path]:
    """Our own modules: not generated code, and not front doors, which hold no behaviour."""
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE)
        if relative.parts[0] != "api" and path.name not in ("__init__.py", "__main__.py"):
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


@pytest.mark.parametrize("source", list(sources()), ids=str)
def test_it_has_its_test_file(source: Path) -> None:
    """Of `room/part/module.py`: test_module.py, test_part.py, test_part_module.py, or an import.

    The test stands in tests/LEVEL/room, at any level.
    """
    if str(source) in UNTESTED_BY_NAME:
        return
    stem = source.stem.lstrip("_")
    parts = source.parts[1:-1]
    names = {f"test_{name}.py" for name in (stem, *parts, "_".join((*parts, stem)))}
    room = source.parts[0] if len(source.parts) > 1 else stem
    module = ".".join(("sampan", *source.with_suffix("").parts))
    imports = re.compile(
        rf"\b{re.escape(module)}\b|from {re.escape(module.rpartition('.')[0])} "
        rf"import \(?[\w, \n]*\b{source.stem}\b"
    )
    tests = files_of(room)
    assert any(path.name in names or imports.search(text) for path, text in tests.items()), (
        f"none of {sorted(names)} below tests/*/{room}, and no test there imports {module}"
    )


def test_exceptions_are_still_needed() -> None:
    listed = {str(path) for path in sources()}
    assert set(UNTESTED_BY_NAME) <= listed


@pytest.mark.parametrize("source", list(sources()), ids=str)
def test_it_is_short_enough_to_read(source: Path) -> None:
    assert len((SOURCE / source).read_bytes().splitlines()) <= MOST_LINES


def test_no_function_is_kept_twice() -> None:
    """A helper that two rooms need belongs in a room below both."""
    homes: dict[str, list[str]] = defaultdict(list)
    for relative in sources():
        tree = ast.parse((SOURCE / relative).read_bytes())
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            body = [ast.dump(part) for part in node.body if not _is_docstring(part)]
            if sum(map(len, body)) < 800:
                continue  # a few lines alike are no copy
            digest = hashlib.sha256("".join(body).encode()).hexdigest()
            homes[digest].append(f"{relative}:{node.lineno} {node.name}")
    assert [places for places in homes.values() if len(places) > 1] == []


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
