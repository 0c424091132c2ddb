"""References that hold only while what they name was used lately: `containerd.io/gc.cond.*`.

    content, image:  containerd.io/gc.cond.snapshot.<snapshotter>[/<any>] = usedat<24h|<key>
    snapshot:        containerd.io/gc.cond.value-usedat                   = 2026-11-21T07:00:00Z

The object keeps the snapshot while the time since its value is less (`<`) or more (`>`) than the
duration. Several conditions before the bar, separated by commas, are alternatives; what cannot be
read is no condition. Source: containerd core/metadata/gc.go, labelGCSnapConditional (2.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sampan.model import durations

__all__ = ["Condition", "conditions_of", "time_us", "used_at_us"]

_SNAPSHOT: Final = "containerd.io/gc.cond.snapshot"
_USED_AT: Final = "containerd.io/gc.cond.value-usedat"
_CONDITION: Final = re.compile(r"usedat([<>])([^=].*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Condition:
    """A snapshot, and how long ago it must, or must not, have been used."""

    snapshotter: str
    key: str
    less: bool
    """The time since must be less than the limit; else more."""
    limit_us: int

    def holds(self, used_us: int, now_us: int) -> bool:
        """Tell whether it holds for a value."""
        since = now_us - used_us
        return since < self.limit_us if self.less else since > self.limit_us


def conditions_of(labels: Mapping[str, str]) -> Iterator[Condition]:
    """Yield the conditions that an object's labels make."""
    for label, value in labels.items():
        if not label.startswith(_SNAPSHOT):
            continue
        snapshotter = label[len(_SNAPSHOT) :].lstrip("./").partition("/")[0]
        texts, bar, key = value.partition("|")
        if not bar:
            continue
        for text in texts.split(","):
            match = _CONDITION.fullmatch(text)
            if match is None:
                continue
            try:
                limit_s = durations.parse(match[2])
            except ValueError:
                continue
            yield Condition(snapshotter, key, match[1] == "<", round(limit_s * 1_000_000))


def used_at_us(labels: Mapping[str, str]) -> int | None:
    """Return when a snapshot says it was used, in microseconds since the epoch."""
    return time_us(labels.get(_USED_AT))


def time_us(text: str | None) -> int | None:
    """Return an RFC 3339 time in microseconds since the epoch; None if it is none."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1_000_000)
