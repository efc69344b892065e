from pathlib import Path

import pytest
import torch
from PIL import Image

from swinv2.train.classify import SCORES
from swinv2.train.plots import NAMED_CLASSES, confusion, curves, save


def test_curves_name_their_axes_and_leave_out_what_is_missing() -> None:
    row = dict.fromkeys(SCORES.columns, 0.5)
    rows = [{**row, "epoch": 1, "train_loss": None}, {**row, "epoch": 2}]
    loss, accuracy = curves(rows, SCORES.panels).axes
    assert [axes.get_xlabel() for axes in (loss, accuracy)] == ["epoch", "epoch"]
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("cross entropy", "validation accuracy, %")
    training, validation = (line.get_xydata().tolist() for line in loss.lines)
    assert training == [[2, 0.5]]
    assert validation == [[1, 0.5], [2, 0.5]]
    assert [point[1] for point in accuracy.lines[0].get_xydata()] == [50, 50]


def test_curves_can_be_drawn_before_the_first_epoch() -> None:
    drawn = curves([], SCORES.panels).axes
    assert [axes.get_ylabel() for axes in drawn] == ["cross entropy", "validation accuracy, %"]
    assert not any(axes.lines or axes.get_legend() for axes in drawn)


def test_what_a_run_never_has_is_in_no_legend() -> None:
    row = dict.fromkeys(SCORES.columns, None) | {"epoch": 1, "train_loss": 0.5}
    loss, accuracy = curves([row], SCORES.panels).axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training"]
    assert accuracy.get_legend() is None


def test_confusion_shows_shares_names_and_numbers() -> None:
    axes = confusion(torch.tensor([[3, 1], [0, 0]]), ["cat", "dog"], "a title").axes[0]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {((0, 0), "3"), ((1, 0), "1")}
    assert axes.get_title() == "a title"


@pytest.mark.parametrize("classes", [1, NAMED_CLASSES, 300])
def test_confusion_fits_any_number_of_classes(classes: int, tmp_path: Path) -> None:
    figure = confusion(torch.eye(classes, dtype=torch.long), [f"class {i}" for i in range(classes)], "")
    save(figure, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert max(image.size) < 2500
    assert len(figure.axes[0].texts) == (classes if classes <= NAMED_CLASSES else 0)


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """A dollar is no mathematics, and bytes that are no text are shown as such."""
    names = ["$5 bill", "$\\frac$", "caf\u00e9 \udcff"]
    figure = confusion(torch.eye(3, dtype=torch.long), names, "top-1 of $x_1$")
    save(figure, tmp_path / "confusion.png")
    labels = [*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels()]
    assert not any(text.get_parse_math() for text in (*labels, figure.axes[0].title))
    assert [text.get_text() for text in labels[:3]] == ["$5 bill", "$\\frac$", "caf\u00e9 \\udcff"]
