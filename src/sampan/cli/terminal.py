"""Our own terminal: raw while a container has it, and as it was afterwards, whatever happens."""

from __future__ import annotations

import os
import sys
import termios
import tty
from types import TracebackType
from typing import Any, Self

__all__ = ["Raw", "size"]


def size() -> tuple[int, int]:
    """Return width and height of the terminal on stdout or stdin, 0 and 0 without one."""
    for stream in (sys.__stdout__, sys.__stdin__):
        try:
            if stream is not None:
                found = os.get_terminal_size(stream.fileno())
                return found.columns, found.lines
        except (OSError, ValueError):
            continue
    return 0, 0


class Raw:
    """Raw mode on fd 0 inside the block, if fd 0 is a terminal."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    def __enter__(self) -> Self:
        if os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)
            # Output stays cooked: the container's own terminal may send bare newlines, as runc's.
            mode = termios.tcgetattr(self._fd)
            mode[1] = self._saved[1]
            termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._saved is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
            self._saved = None
