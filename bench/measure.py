"""Interleaved samples, their medians, and ratios to a peer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Sample = Callable[[], float]


@dataclass
class Case:
    """One figure, measured for several programs by turns. `unit` is that of the samples."""

    name: str
    unit: str
    ours: str
    peer: str
    bar: float | None
    """Most that ours/peer may be; None where the design sets none."""
    samples: Mapping[str, Sample]
    rounds: int = 20
    results: dict[str, list[float]] = field(default_factory=dict)

    def run(self) -> None:
        """Take one sample of each program a round; the first round warms up and is not counted."""
        self.results = {name: [] for name in self.samples}
        for number in range(self.rounds + 1):
            for name, sample in self.samples.items():
                value = sample()
                if number:
                    self.results[name].append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.results[name])

    def ratio(self) -> float | None:
        """Ours to the peer's; None without a peer here."""
        if self.ours not in self.results or self.peer not in self.results:
            return None
        return self.median(self.ours) / self.median(self.peer)

    def as_json(self) -> dict[str, object]:
        """Everything, the samples included."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "bar": self.bar,
            "ratio": self.ratio(),
            "medians": {name: self.median(name) for name in self.results},
            "samples": self.results,
        }
