from pathlib import Path

import pytest

from swinv2.train.classify import SCORES
from swinv2.train.folder import RunFolder

COLUMNS = SCORES.columns


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "one", SCORES)
    folder.create("seed: 0\n")
    folder.begin("seed: 0\n")
    return folder


def row(epoch: int, **values: float | None) -> dict[str, float | None]:
    return {**dict.fromkeys(COLUMNS, 0.25), "epoch": epoch, "step": 10 * epoch, **values}


def test_a_new_folder_has_its_recipe_and_empty_metrics(folder: RunFolder) -> None:
    assert folder.config.read_text() == "seed: 0\n"
    assert folder.metrics.read_text() == ",".join(COLUMNS) + "\n"
    assert folder.contents() == ["config.yaml", "curves.png", "metrics.csv"]


def test_a_folder_appears_with_its_recipe(tmp_path: Path) -> None:
    """And nothing that somebody else has made meanwhile is touched."""
    folder = RunFolder(tmp_path / "run")
    folder.create("seed: 0\n")
    (tmp_path / "other").mkdir()
    assert folder.contents() == ["config.yaml"]
    assert folder.path.stat().st_mode == (tmp_path / "other").stat().st_mode
    with pytest.raises(OSError, match="run"):
        folder.create("seed: 1\n")
    assert folder.config.read_text() == "seed: 0\n"
    assert {path.name for path in tmp_path.iterdir()} == {"other", "run"}


def test_rows_come_back_as_they_were(folder: RunFolder) -> None:
    rows = [row(1), row(2, train_loss=None, val_loss=float("inf"), lr=1e-7)]
    for each in rows:
        folder.record(each)
    again = RunFolder(folder.path)
    assert again.rows == rows
    assert isinstance(again.rows[0]["epoch"], int)


def test_an_epoch_has_one_row_the_latest(folder: RunFolder) -> None:
    for each in (row(1), row(2, val_loss=9.0), row(3)):
        folder.record(each)
    resumed = RunFolder(folder.path, SCORES)
    resumed.begin("seed: 0\n")
    resumed.record(row(2, val_loss=1.0))
    assert [(r["epoch"], r["val_loss"]) for r in RunFolder(folder.path).rows] == [(1, 0.25), (2, 1.0), (3, 0.25)]


def test_any_file_name_can_be_listed(folder: RunFolder) -> None:
    folder.list_skipped(["caf\u00e9.png: broken.", "\udcff.png: broken."])
    assert folder.read_skipped() == ["caf\u00e9.png: broken.", "\\udcff.png: broken."]


def test_curves_are_redrawn_with_every_row(folder: RunFolder) -> None:
    before = folder.curves_picture.read_bytes()
    folder.record(row(1))
    assert folder.curves_picture.read_bytes() != before
