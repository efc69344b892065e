"""A study as data: cells to train and to measure, and what follows from their figures. No torch here."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swinv2.config import WindowSpec, did_you_mean
from swinv2.study.findings import Report

Scale = Literal["laptop", "paper"]
Family = Literal["digits", "images", "paper"]
Figures = Mapping[str, Any]
"""What was measured of a cell, as plain data for JSON."""

STUDIES = {
    "window-transfer": "which position bias survives a larger window (Tables 1 and 8)",
    "norm-and-attention": "where to normalise, and how to score attention (Tables 6 and 7)",
    "activations": "how amplitudes grow with depth and width (Figure 2)",
    "bias-maps": "what position biases learn, and where attention looks (Figure 4)",
    "memory": "what each technique saves (section 3.5)",
    "stability": "SimMIM of a deep V1 and V2 (Figure 3)",
}
"""Names, in the order of the paper's argument, and what each is about."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Somebody's weights to look at, and on what.

    Args:
        weights: file, folder or hub id, in any format that swinv2 reads.
        key: which weights to take where the file holds several.
        trained_window_size: window that the bias was trained at, where the weights are silent.
        image_size: input, one number or one per axis; None for what the weights tell.
    """

    weights: str
    key: str | None = None
    trained_window_size: WindowSpec | None = None
    image_size: int | tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is asked of a study.

    Args:
        scale: laptop, or the paper's own recipes.
        data: images to train on, in any form that `swinv2 train` reads; "digits" are scikit-learn's.
        seeds: trainings of each kind that differ by their seed alone; None for what the scale has.
        changes: options of a recipe by their dotted names, for every training.
        subject: weights to look at instead of training any.
        image: an image to look at; None for one of the data, or of scikit-learn's photos.
    """

    scale: Scale = "laptop"
    data: str = "digits"
    seeds: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    subject: Subject | None = None
    image: str | None = None

    @property
    def family(self) -> Family:
        """Which base recipe serves."""
        return "paper" if self.scale == "paper" else "digits" if self.data == "digits" else "images"

    def seed_range(self, laptop: int = 3) -> range:
        """The seeds: as many as asked for, else so many on a laptop and one, as in the paper."""
        return range(self.seeds or (laptop if self.scale == "laptop" else 1))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of a study's grid.

    Args:
        factors: what distinguishes it, in the order of its name.
        changes: options of the base recipe to replace, by their dotted names; None where nothing is trained.
        start: name of the cell from whose weights it starts.
    """

    factors: Mapping[str, str | int | float]
    changes: Mapping[str, Any] | None = None
    start: str | None = None

    @property
    def name(self) -> str:
        """Its folder."""
        return "-".join(f"{value:g}" if isinstance(value, float) else str(value) for value in self.factors.values())


@dataclass(frozen=True)
class Done:
    """A cell with its figures, and where the weights are that its training kept, if any are left."""

    cell: Cell
    figures: Figures
    weights: Path | None = None


Results = Sequence[Done]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study's module says.

    Args:
        title: what is compared.
        source: where the paper tells it.
        question: what it asks, and by what means, in a few sentences.
        bases: options of the base recipe by family; empty where nothing is trained.
        cells: the grid.
        measure: figures of a cell beside those of its training; its run folder is None where nothing was trained.
        report: what follows from the cells that are done.
        varies: options of a recipe that the cells differ in, which nobody else may set.
        validates: whether held-out images are counted, so that there must be enough of them.
        takes_weights: whether it looks at anybody's weights.
        takes_image: whether it looks at anybody's image.
    """

    title: str
    source: str
    question: str
    bases: Mapping[Family, Mapping[str, Any]]
    cells: Callable[[Setting], Sequence[Cell]]
    measure: Callable[[Cell, Setting, Path | None], Figures]
    report: Callable[[Setting, Results], Report]
    varies: tuple[str, ...] = ("seed",)
    validates: bool = True
    takes_weights: bool = False
    takes_image: bool = False


def find_study(name: str) -> Study:
    """The study of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}{did_you_mean(name, STUDIES)}: use one of {', '.join(STUDIES)}.")
    study: Study = importlib.import_module(f"swinv2.study.{name.replace('-', '_')}").STUDY
    return study


def chosen(results: Results, **factors: object) -> list[Done]:
    """The cells that have these factors; None for one that they have not."""
    return [done for done in results if all(done.cell.factors.get(name) == value for name, value in factors.items())]


def validated(results: Results) -> int:
    """Validation images, of which every training counts the same."""
    return next((int(done.figures["images"]) for done in results if "images" in done.figures), 1)


def guess(results: Results) -> float:
    """Accuracy of guessing, which a training that diverged counts as."""
    return next((1 / int(done.figures["classes"]) for done in results if "classes" in done.figures), 0.0)


def seeds(results: Results, figure: Callable[[Figures], float | None], **factors: object) -> list[float]:
    """A figure of each cell that is done and has these factors; nan where there is none, as where it diverged."""
    found = [figure(done.figures) for done in chosen(results, **factors)]
    return [math.nan if value is None else float(value) for value in found]


def values(results: Results, figure: str, **factors: object) -> list[float]:
    """A figure of the cells that are done and have these factors, of those that have it; nan where it diverged.

    A factor that is None is one that the cell has not.
    """
    shown = [done for done in results if figure in done.figures or done.figures.get("diverged")]
    return seeds(shown, lambda figures: figures.get(figure), **factors)
