from __future__ import annotations

import csv
import re

from swinv2.study.base import Cell, Done
from swinv2.study.raw import cells_csv, provenance, rounds_csv, this_machine

DONE = [
    Done(Cell(factors={"bias": "log", "seed": 0}), {"at": {"1": 0.5, "2": None}, "amplitudes": [[1.0], [2.0]]}),
    Done(
        Cell(factors={"bias": "log", "seed": 0, "tuned": "tuned"}),
        {
            "top1": 0.25,
            "rows": [{"step": 1, "train_loss": 2.5}, {"step": 2}],
            "machine": "a, 2 threads",
            "training_images": 8,
            "images": 4,
        },
    ),
]


def test_every_figure_has_a_column_and_every_cell_a_row() -> None:
    first, second = csv.DictReader(cells_csv(DONE).splitlines())
    assert (first["bias"], first["seed"], first["tuned"]) == ("log", "0", "")
    assert (first["at.1"], first["at.2"], first["amplitudes"]) == ("0.5", "", "[[1.0], [2.0]]")
    assert (second["tuned"], second["top1"], second["at.1"]) == ("tuned", "0.25", "")
    assert "rows" not in first


def test_every_round_has_a_row() -> None:
    found = list(csv.DictReader(rounds_csv(DONE).splitlines()))
    assert [(row["tuned"], row["step"], row["train_loss"]) for row in found] == [
        ("tuned", "1", "2.5"),
        ("tuned", "2", ""),
    ]
    assert rounds_csv(DONE[:1]) == ""


def test_what_figures_were_measured_on_is_one_line() -> None:
    other = Done(Cell(factors={}), {"machine": "b", "training_images": 8, "images": 4})
    assert provenance([*DONE, other, other]) == "Measured on a, 2 threads; b; 8 training and 4 validation images."
    assert provenance(DONE[:1]) == ""
    assert re.fullmatch(r".+, torch \S+, swinv2 \S+", this_machine())
