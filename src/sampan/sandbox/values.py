"""What sandboxes take and give: plain values, and the two errors of programs that ran in them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sampan.errors import DeadlineExceeded, InvalidArgument, Unknown

__all__ = [
    "CalledProcessError",
    "Change",
    "Completed",
    "FileInfo",
    "Mount",
    "SandboxInfo",
    "Stats",
    "TimeoutExpired",
    "parse_bytes",
]


class TimeoutExpired(DeadlineExceeded):
    """A program ran longer than it was allowed, and was killed with everything that it started."""

    def __init__(
        self, cmd: Sequence[str], timeout: float, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(
            f"{shlex.join(cmd)} did not end within {timeout:g} s and was killed: give it longer"
        )
        self.cmd = tuple(cmd)
        self.timeout = timeout
        """Seconds."""
        self.stdout = stdout
        """What it had written until then."""
        self.stderr = stderr


class CalledProcessError(Unknown):
    """A program that was run with `check=True` ended with another status than 0."""

    def __init__(self, completed: Completed) -> None:
        words = completed.stderr.decode("utf-8", "replace").strip().splitlines()
        last = f": {words[-1][:200]}" if words else ""
        super().__init__(
            f"{shlex.join(completed.args)} ended with status {completed.returncode}{last}"
        )
        self.completed = completed
        self.cmd = completed.args
        self.returncode = completed.returncode
        self.stdout = completed.stdout
        self.stderr = completed.stderr


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended, in the manner of `subprocess.CompletedProcess`."""

    args: tuple[str, ...]
    returncode: int
    """Its exit status; 128 + n when signal n ended it."""
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False
    """It wrote more than `output_limit`, and the rest was thrown away."""

    @property
    def text(self) -> str:
        """Its stdout as text; what is no UTF-8 is replaced."""
        return self.stdout.decode("utf-8", "replace")

    def check_returncode(self) -> None:
        """Raise CalledProcessError unless it ended with 0."""
        if self.returncode:
            raise CalledProcessError(self)


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host inside the sandbox, or with an empty source a tmpfs."""

    source: str
    target: str
    """An absolute path in the sandbox."""
    read_only: bool = False
    options: tuple[str, ...] = ()
    """More of them, as mount(8) has them: `size=64m` for a tmpfs."""

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Read `HOST:TARGET[:ro]`.

        Raises:
          InvalidArgument: it is not of that form.
        """
        parts = text.split(":")
        if len(parts) not in (2, 3) or (parts[2:] and parts[2] not in ("ro", "rw")):
            raise InvalidArgument(f"mount {text!r} is not HOST:TARGET or HOST:TARGET:ro")
        return cls(parts[0], parts[1], parts[2:] == ["ro"])


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a sandbox."""

    name: str
    """Its last component."""
    kind: str
    """`file`, `folder`, `link` or `other`."""
    size: int
    """In bytes."""
    mode: int
    """Permission bits."""
    uid: int
    gid: int
    mtime: float
    """Seconds since the epoch."""
    target: str = ""
    """Where a link leads."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A path whose content, owner or mode is not as it was."""

    path: str
    kind: str
    """`added`, `modified` or `deleted`."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a sandbox uses now, as its cgroups count; 0 where they do not."""

    cpu_seconds: float
    memory_bytes: int
    memory_limit_bytes: int
    """0 is no limit."""
    pids: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxInfo:
    """A container of the client's namespace, whoever made it."""

    id: str
    name: str
    image: str
    state: str
    """`created`, `running`, `paused` or `exited`."""
    exit_status: int = 0
    created_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_bytes(value: int | str | None) -> int:
    """Return bytes of `64 << 20`, `"512M"`, `"1.5g"`; None is 0.

    Raises:
      InvalidArgument: it is none.
    """
    if value is None or isinstance(value, int):
        number = value or 0
        if number < 0:
            raise InvalidArgument(f"{value} is no size in bytes")
        return number
    low = value.strip().lower().removesuffix("b").removesuffix("i")
    factor = {"k": 10, "m": 20, "g": 30, "t": 40}.get(low[-1:], 0)
    digits = low[:-1] if factor else low
    if not digits.isascii() or not digits.replace(".", "", 1).isdigit():
        raise InvalidArgument(f"{value!r} is no size: write bytes, or a number with k, m, g or t")
    return int(float(digits) * (1 << factor))
