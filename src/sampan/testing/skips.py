"""The list of skips that are allowed where all needs should be met, each with its reason.

# pattern of test ids | part of the skip's reason | why this is all right
tests/kernel/storage/* | fs:zfs | Debian has no zfs in main
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["AllowedSkips"]


@dataclass(frozen=True, slots=True)
class _Line:
    pattern: str
    part: str
    why: str


class AllowedSkips:
    """The parsed list. `judge` turns the report of any other skip into a failure."""

    def __init__(self, lines: tuple[_Line, ...]) -> None:
        self._lines = lines

    @classmethod
    def read(cls, path: Path) -> AllowedSkips:
        """Parse the file at `path`.

        Raises:
          pytest.UsageError: a line has not three parts, or no file is there.
        """
        if not path.is_file():
            raise pytest.UsageError(f"--require-all: no such file: {path}")
        lines = []
        for number, text in enumerate(path.read_text().splitlines(), 1):
            if not text.strip() or text.startswith("#"):
                continue
            parts = [part.strip() for part in text.split(" | ")]
            if len(parts) != 3 or not all(parts):
                raise pytest.UsageError(f"{path}:{number}: want `test ids | part of reason | why`")
            lines.append(_Line(*parts))
        return cls(tuple(lines))

    def allows(self, nodeid: str, reason: str) -> bool:
        """Tell whether a line matches both the test's id and its reason."""
        return any(
            fnmatch.fnmatchcase(nodeid, line.pattern) and line.part in reason
            for line in self._lines
        )

    def judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Make the report of a skip that is not allowed one of a failure."""
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        if not self.allows(report.nodeid, reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, which --require-all forbids: {reason}"
