"""What a study concludes: tables, pictures, and claims of the paper with a verdict that a stated rule gives."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Word = Literal["seen", "not seen", "not visible at this scale", "not run yet"]

TWO_ERRORS = (
    "seen where the first mean is above the second by more than two standard errors of the difference, not seen where "
    "it is below by as much, else not visible; the error is that between seeds, or that of counting the validation "
    "images where this is larger"
)


class Mean(NamedTuple):
    """Mean of several trainings, and their standard deviation; None of a single one."""

    mean: float
    deviation: float | None
    seeds: int


def mean(values: Sequence[float]) -> Mean | None:
    """None of no values."""
    if not values:
        return None
    return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text, numbers and means.

    Args:
        name: of its file.
        caption: what it shows, units included.
        head: names of the columns.
        rows: None is an empty place.
        form: of numbers and means in people's eyes.
        note: below it.
        text_columns: so many columns, from the first on, are words.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    form: str = "{:.3g}"
    note: str = ""
    text_columns: int = 1

    def show(self, value: Any) -> str:
        """A value for people."""
        if isinstance(value, Mean):
            spread = "" if value.deviation is None else f" ± {self.form.format(value.deviation)}"
            return f"{self.form.format(value.mean)}{spread}"
        if isinstance(value, float):
            return self.form.format(value)
        return "-" if value is None else str(value)


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, and what it shows."""

    name: str
    caption: str
    figure: Figure


class Verdict(NamedTuple):
    """What became of a claim, and why."""

    word: Word
    why: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper, and how it fares.

    Args:
        text: the claim.
        source: where the paper makes it, with its figures.
        rule: how the verdict follows from ours.
        verdict: what follows.
    """

    text: str
    source: str
    rule: str
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a study says.

    Args:
        tables: our figures; the first holds the main result.
        paper: the paper's.
        pictures: the first shows the main result.
        claims: with their verdicts.
        notes: what else people should know.
        question: what is asked, where it is not what the study asks.
    """

    tables: Sequence[Table] = ()
    paper: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()
    question: str = ""


PENDING = Verdict("not run yet", "not all that it needs is done yet.")


def above(first: Sequence[float], second: Sequence[float], *, images: int, expected: int) -> Verdict:
    """`TWO_ERRORS` for accuracies, one a seed.

    Args:
        first: of what should be more accurate.
        second: of what it is compared with.
        images: that each accuracy was counted on.
        expected: how many seeds there are to be.
    """
    if min(len(first), len(second)) < expected:
        return PENDING
    difference = statistics.fmean(first) - statistics.fmean(second)
    error = max(_between_seeds(first, second), _of_counting(first, second, images))
    told = f"{100 * difference:+.1f} points, two standard errors are {200 * error:.1f}"
    if abs(difference) <= 2 * error:
        return Verdict("not visible at this scale", f"{told}: within what seeds and images vary by themselves.")
    return Verdict("seen" if difference > 0 else "not seen", f"{told}.")


def alike(first: Sequence[float], second: Sequence[float], *, images: int, expected: int, within: float) -> Verdict:
    """Whether accuracies are the same: seen where they differ by less than ``within``, or two standard errors."""
    compared = above(first, second, images=images, expected=expected)
    if compared is PENDING:
        return compared
    difference = statistics.fmean(first) - statistics.fmean(second)
    same = abs(difference) <= within or compared.word == "not visible at this scale"
    return Verdict("seen" if same else "not seen", f"they differ by {100 * difference:+.1f} points.")


def _between_seeds(first: Sequence[float], second: Sequence[float]) -> float:
    """Standard error of the difference of two means; 0 where a single seed tells nothing of it."""
    return math.sqrt(sum(statistics.variance(each) / len(each) for each in (first, second) if len(each) > 1))


def _of_counting(first: Sequence[float], second: Sequence[float], images: int) -> float:
    """The same from the number of images alone, if all seeds saw the same ones."""
    return math.sqrt(sum((p := statistics.fmean(each)) * (1 - p) / images for each in (first, second)))
