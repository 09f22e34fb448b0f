"""Write metrics in Prometheus' text format 0.0.4.

The format is https://prometheus.io/docs/instrumenting/exposition_formats/. Who counts and where is not
known here: a family reads its samples from a source when it is asked.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Source = TypeVar("Source")
Sample: TypeAlias = tuple[tuple[str, ...], float]
"""The values of the labels in the family's order, and the value."""


class Kind(enum.StrEnum):
    """The types of the format that are in use here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Histogram:
    """Counts observations by size; ``bounds`` are the inclusive upper ends of the buckets, ascending."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Begin empty; a bucket without an upper end is added."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        """Return the samples of a family of this name."""
        ends = [number(bound) for bound in (*self._bounds, math.inf)]
        totals = list(accumulate(self._counts))
        buckets = [f'{name}_bucket{{le="{end}"}} {total}\n' for end, total in zip(ends, totals, strict=True)]
        return [*buckets, f"{name}_sum {number(self._sum)}\n", f"{name}_count {totals[-1]}\n"]


@dataclass(frozen=True, slots=True)
class Family(Generic[Source]):
    """One metric: what it is called, what it means, and how its samples are read.

    ``buckets`` are the bounds of a histogram, empty for the others.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[Source], Iterable[Sample] | Histogram]
    buckets: tuple[float, ...] = ()

    def text(self, source: Source) -> str:
        """Return the whole family, header included."""
        help_text = self.help.replace("\\", r"\\").replace("\n", r"\n")
        lines = [f"# HELP {self.name} {help_text}\n# TYPE {self.name} {self.kind}\n"]
        found = self.read(source)
        if isinstance(found, Histogram):
            return "".join(lines + found.lines(self.name))
        pairs = ",".join(f'{label}="%s"' for label in self.labels)
        template = f"{self.name}{{{pairs}}} %s\n" if pairs else f"{self.name} %s\n"
        lines += [template % (*map(escape, values), number(value)) for values, value in found]
        return "".join(lines)


def escape(value: str) -> str:
    """Return a label's value as it stands between the quotes."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def number(value: float) -> str:
    """Return a value as the format writes it; whole numbers without a point."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
