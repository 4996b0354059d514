"""What a measurement says: values, the goals it is held to, and whether they were met."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. The quick one only shows that everything works: its times say nothing."""

    rounds: int = 5
    seconds: float = 3.0
    warm: float = 1.0
    pins: int = 1_000_000
    held: int = 9000  # HAProxy needs two descriptors for each, and the usual limit is 20,000
    changes: int = 200
    members: int = 64
    slots: int = 65537
    probed: int = 200
    growth_members: tuple[int, ...] = (1, 8, 64, 256)
    growth_pins: tuple[int, ...] = (0, 10_000, 1_000_000)
    judged: bool = True

    @classmethod
    def quick(cls) -> "Scale":
        """For CI."""
        return cls(1, 1.0, 0.0, 20_000, 500, 10, 8, 1021, 20, (1, 8), (0, 1000), False)


@dataclass(frozen=True, slots=True)
class Check:
    """One goal."""

    what: str
    value: float
    goal: float
    at_least: bool = True  # else at most

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def __str__(self) -> str:
        return f"{self.what}: {number(self.value)} ({'>=' if self.at_least else '<='} {number(self.goal)})"


@dataclass(slots=True)
class Figure:
    """One line of the table."""

    name: str
    title: str
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, who: str, value: float) -> None:
        """One sample."""
        self.samples.setdefault(who, []).append(value)

    def median(self, who: str) -> float:
        """Of the samples so far."""
        return median(self.samples[who])

    def spread(self, who: str) -> float:
        """Half of the distance between the least and the greatest sample, as a share of the median."""
        values = self.samples[who]
        middle = median(values)
        return (max(values) - min(values)) / 2 / middle if middle else 0.0

    def ratio(self, who: str, other: str) -> float:
        """The median over the rounds of who / other in the same round."""
        pairs = zip(self.samples[who], self.samples[other], strict=True)
        return median(a / b for a, b in pairs if b)

    def at_least(self, what: str, value: float, goal: float) -> None:
        """Hold it to a goal."""
        self.checks.append(Check(what, value, goal))

    def at_most(self, what: str, value: float, goal: float) -> None:
        """Hold it to a goal."""
        self.checks.append(Check(what, value, goal, at_least=False))

    @property
    def met(self) -> bool:
        """Whether all goals are."""
        return all(check.met for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """With medians and verdicts worked out."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "median": {who: median(values) for who, values in self.samples.items() if values},
            "samples": self.samples,
            "checks": [asdict(check) | {"met": check.met} for check in self.checks],
            "notes": self.notes,
        }


def from_json(found: Mapping[str, Any]) -> Figure:
    """What `Figure.as_json` wrote down."""
    checks = [Check(c["what"], c["value"], c["goal"], c["at_least"]) for c in found["checks"]]
    return Figure(found["name"], found["title"], found["unit"], dict(found["samples"]), checks, list(found["notes"]))


def number(value: float) -> str:
    """With as many digits as are worth reading."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 20 else f"{value:.3g}"


Say = Callable[[str], None]
