"""Interleaved samples, their medians, and ratios to a peer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Figures = Mapping[str, float]
Sample = Callable[[], Figures]


@dataclass
class Row:
    """One figure of several programs. `unit` is that of the samples."""

    name: str
    unit: str
    ours: str
    peer: str
    samples: Mapping[str, list[float]]
    bar: float | None = None
    """What ours/peer may be at most (at least, if `higher`); None where the design sets none."""
    higher: bool = False
    """More is better."""
    limit: float | None = None
    """What ours may be at most, in `unit`."""
    note: str = ""

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio(self) -> float | None:
        """Ours to the peer's; None without a peer here."""
        if not self.samples.get(self.ours) or not self.samples.get(self.peer):
            return None
        peer = self.median(self.peer)
        return self.median(self.ours) / peer if peer else None

    def reached(self) -> bool | None:
        """Whether the bar is reached; None where there is none, or nothing to compare with."""
        if self.limit is not None:
            return self.median(self.ours) <= self.limit
        ratio = self.ratio()
        if self.bar is None or ratio is None:
            return None
        return ratio >= self.bar if self.higher else ratio <= self.bar

    def as_json(self) -> dict[str, object]:
        """Everything, the samples included."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "bar": self.bar,
            "limit": self.limit,
            "higher_is_better": self.higher,
            "ratio": self.ratio(),
            "reached": self.reached(),
            "note": self.note,
            "programs": {name: _summary(taken) for name, taken in self.samples.items() if taken},
        }


def _summary(taken: list[float]) -> dict[str, object]:
    return {
        "median": statistics.median(taken),
        "min": min(taken),
        "max": max(taken),
        "samples": taken,
    }


@dataclass
class Interleaved:
    """Samples of several programs by turns: `figures[figure][program]` are the values taken."""

    programs: Mapping[str, Sample]
    rounds: int
    warmups: int = 1
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def run(self) -> Interleaved:
        """Take one sample of each program a round; the order turns, so that no one is always first.

        Warm-up rounds are not counted.
        """
        names = list(self.programs)
        for number in range(-self.warmups, self.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                values = self.programs[name]()
                if number >= 0:
                    for figure, value in values.items():
                        self.figures.setdefault(figure, {}).setdefault(name, []).append(value)
        return self

    def taken(self, figure: str) -> dict[str, list[float]]:
        """Return the values of a figure by program."""
        return self.figures.get(figure, {})


def interval(taken: list[float], peer: list[float]) -> tuple[float, float]:
    """Return where nine in ten of the pairs' ratios lie."""
    ratios = sorted(a / b for a, b in zip(taken, peer, strict=True))
    cut = round(len(ratios) * 0.05)
    return ratios[cut], ratios[-1 - cut]
