"""What a study concludes: tables, pictures, and claims of the paper with a verdict that a stated rule gives."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Word = Literal["seen", "not seen", "not visible at this scale", "not run yet"]

BETWEEN_SEEDS = "compared by seeds"
"""The rule of `above`; a claim's rule names it, and says beside it what it asks for besides."""

TWO_ERRORS = "compared by seeds and by images"
"""The same, for accuracies."""

DEFINITIONS = {
    BETWEEN_SEEDS: "seen where the first mean is above the second by more than seeds vary by themselves (95% of "
    "Student's t: 2.8 standard errors of the difference or more for three seeds each), not seen where it is below by "
    "as much, else not visible",
    TWO_ERRORS: "as by seeds, and a difference must also be above two standard errors of counting the validation "
    "images, which are taken as if each model had others: near 50% of 5,000 images, two points",
}
"""What a report explains once, of the rules that its claims name."""

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Quantiles 0.975 of Student's t from 1 degree of freedom on; more than ten are judged as ten."""

Sample = Sequence[float] | float
"""A figure of each seed, nan or infinite of those that diverged; a number alone is exact."""


class Mean(NamedTuple):
    """Mean of several trainings, and their standard deviation; None of a single one."""

    mean: float
    deviation: float | None
    seeds: int


def mean(values: Sequence[float]) -> Mean | None:
    """Of those that did not diverge; None of no values."""
    values = [value for value in values if math.isfinite(value)]
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


def above(
    first: Sample,
    second: Sample,
    *,
    expected: int,
    images: int | None = None,
    least: float = 0.0,
    share: float = 0.0,
    guess: float | None = None,
) -> Verdict:
    """`BETWEEN_SEEDS`, or for accuracies `TWO_ERRORS`.

    A single seed tells nothing of what seeds vary by: it is judged by the images and by the least difference alone,
    and not at all where there are neither.

    Args:
        first: of what should be higher.
        second: of what it is compared with.
        expected: how many seeds there are to be.
        images: that each was counted on, if they are accuracies.
        least: difference below which nothing counts as visible.
        share: the same, as a share of the smaller of both means; 1 for twice as much.
        guess: what a training that diverged counts as; None where it cannot be compared.
    """
    measured = _measured(first, second, expected, images, guess)
    if isinstance(measured, Verdict):
        return measured
    floor = max(least, share * min(map(abs, measured.means)))
    if abs(measured.difference) <= measured.margin:
        return Verdict("not visible at this scale", f"{measured.told}: within what {measured.limit}.")
    if abs(measured.difference) < floor:
        return Verdict("not visible at this scale", f"{measured.told}: less than {measured.show(floor)}.")
    if measured.single and images is None and not floor:
        return Verdict("not visible at this scale", f"{measured.told}: nothing says what seeds vary by.")
    return Verdict("seen" if measured.difference > 0 else "not seen", f"{measured.told}.")


def alike(
    first: Sample,
    second: Sample,
    *,
    expected: int,
    within: float,
    images: int | None = None,
    guess: float | None = None,
) -> Verdict:
    """Whether two means are the same: seen where they differ by ``within`` at most, however seeds and images vary.

    Not seen where they differ by more than that and by more than they vary, else not visible. Other arguments are those
    of `above`.
    """
    measured = _measured(first, second, expected, images, guess)
    if isinstance(measured, Verdict):
        return measured
    apart, allowed = abs(measured.difference), f"{measured.show(within)} are allowed"
    if apart > max(within, measured.margin):
        return Verdict("not seen", f"{measured.told}, {allowed}.")
    if apart + measured.margin > within or (measured.single and images is None):
        return Verdict("not visible at this scale", f"{measured.told}, {allowed}: too uncertain to tell.")
    return Verdict("seen", f"{measured.told}, {allowed}.")


def together(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Of a claim that several comparisons make up, by their names: seen where each is; else the worst of them."""
    words = {verdict.word for verdict in verdicts.values()}
    order: tuple[Word, ...] = ("not run yet", "not seen", "not visible at this scale", "seen")
    word = next(each for each in order if each in words)
    why = "; ".join(f"{name}: {verdict.why.removesuffix('.')}" for name, verdict in verdicts.items())
    return PENDING if word == PENDING.word else Verdict(word, f"{why}.")


def as_guessing(values: Sequence[float], guess: float) -> list[float]:
    """Figures with what guessing gives in place of those of trainings that diverged."""
    return [value if math.isfinite(value) else guess for value in values]


class _Measured(NamedTuple):
    """Two means, and what their difference must exceed to be one."""

    means: tuple[float, float]
    margin: float
    limit: str
    single: bool
    accuracies: bool
    spoilt: str

    @property
    def difference(self) -> float:
        return self.means[0] - self.means[1]

    def show(self, value: float) -> str:
        return f"{100 * value:.1f} points" if self.accuracies else f"{value:.3g}"

    @property
    def told(self) -> str:
        first, second = (f"{100 * each:.1f}%" if self.accuracies else f"{each:.3g}" for each in self.means)
        apart = ("+" if self.difference >= 0 else "-") + self.show(abs(self.difference))
        varies = f", against {self.show(self.margin)} by chance" if self.margin else ""
        seeds = ", one seed" if self.single else ""
        return f"{first} and {second}, {apart}{varies}{seeds}{self.spoilt}"


def _measured(
    first: Sample, second: Sample, expected: int, images: int | None, guess: float | None
) -> _Measured | Verdict:
    """The means and what they vary by; a verdict where they cannot be compared."""
    seeds = [list(each) for each in (first, second) if isinstance(each, Sequence)]
    if any(len(found) < expected for found in seeds):
        return PENDING
    diverged = [sum(not math.isfinite(value) for value in found) for found in seeds]
    told = " and ".join(f"{lost} of {len(found)}" for lost, found in zip(diverged, seeds, strict=True))
    if any(diverged) and guess is None:
        return Verdict("not visible at this scale", f"{told} diverged, and those that are left are no fair comparison.")
    whole = [as_guessing(each, guess or 0.0) if isinstance(each, Sequence) else [each] for each in (first, second)]
    means = (statistics.fmean(whole[0]), statistics.fmean(whole[1]))
    between, counting = _between_seeds(whole), 2 * _of_counting(means, images) if images else 0.0
    return _Measured(
        means=means,
        margin=max(between, counting),
        limit="seeds vary by" if between >= counting else f"counting {images} images may add",
        single=any(len(found) == 1 for found in seeds),
        accuracies=images is not None,
        spoilt=f", {told} diverged and count as guessing" if any(diverged) else "",
    )


def _between_seeds(samples: Sequence[Sequence[float]]) -> float:
    """What 95% of differences of means stay below by chance (Welch); 0 where single seeds tell nothing of it."""
    errors = [(statistics.variance(each) / len(each), len(each) - 1) for each in samples if len(each) > 1]
    whole = sum(error for error, _ in errors)
    if not whole:
        return 0.0
    freedom = whole**2 / sum(error**2 / degrees for error, degrees in errors)
    return STUDENT[min(max(int(freedom + 1e-6), 1), len(STUDENT)) - 1] * math.sqrt(whole)


def _of_counting(means: Sequence[float], images: int) -> float:
    """Standard error of the difference of two accuracies from the number of images alone."""
    return math.sqrt(sum(p * (1 - p) / images for p in means))
