"""Prometheus's text format: families of samples, written once a scrape.

Source: prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["CONTENT_TYPE", "Family", "Histogram", "render"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; the defaults of Prometheus's clients."""


class Family:
    """Samples of one name; `kind` is counter, gauge or histogram."""

    def __init__(self, name: str, kind: str, help: str) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self._samples: list[tuple[str, Mapping[str, str], float]] = []

    def add(self, value: float, labels: Mapping[str, str] | None = None, suffix: str = "") -> None:
        """Add a sample; a histogram's end in _bucket, _sum and _count."""
        self._samples.append((suffix, labels or {}, value))

    def lines(self) -> Iterable[str]:
        """Yield the family as text; nothing without samples."""
        if not self._samples:
            return
        yield f"# HELP {self.name} {_escaped(self.help)}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self._samples:
            pairs = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
            yield (
                f"{self.name}{suffix}{{{pairs}}} {_number(value)}"
                if pairs
                else (f"{self.name}{suffix} {_number(value)}")
            )


class Histogram:
    """Counts in buckets, kept between scrapes."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.total += seconds
        for number, bound in enumerate(BUCKETS):
            if seconds <= bound:
                self.counts[number] += 1
                return
        self.counts[-1] += 1

    def add_to(self, family: Family, labels: Mapping[str, str]) -> None:
        """Write the samples."""
        below = 0
        for count, bound in zip(self.counts, (*BUCKETS, float("inf")), strict=True):
            below += count
            family.add(below, {**labels, "le": _number(bound)}, "_bucket")
        family.add(self.total, labels, "_sum")
        family.add(below, labels, "_count")


def render(families: Iterable[Family]) -> bytes:
    """Return what a scraper gets."""
    return "".join(f"{line}\n" for family in families for line in family.lines()).encode()


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
