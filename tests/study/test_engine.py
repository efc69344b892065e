from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from swinv2.study.base import Done, Setting, Study
from swinv2.study.engine import RESULT, _check_folder, _configuration, planned, run_study
from swinv2.study.scales import recipes
from swinv2.train.folder import RunFolder

SETTING = Setting(seeds=1)


def silent(line: str) -> None:
    pass


def figures(out: Path, cell: str) -> dict[str, object]:
    return dict(json.loads((out / "cells" / cell / RESULT).read_text()))


def without_time(done: list[Done]) -> list[dict[str, object]]:
    return [{name: value for name, value in each.figures.items() if name != "seconds"} for each in done]


@pytest.mark.slow
def test_cells_are_trained_once_and_the_report_is_written(tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    done = run_study("tiny", tiny_study(), SETTING, out, say=said.append)
    assert [each.cell.name for each in done] == ["untrained", "table-0", "log_cpb-0", "log_cpb-0-tuned"]
    assert done[0].weights is None
    assert 0 <= done[1].figures["top1"] <= 1
    assert [row["epoch"] for row in done[1].figures["rows"]] == [1, 2]
    assert done[1].figures["images"] == 360
    assert done[1].figures["classes"] == 10
    assert said[0].startswith("planned: swinv2_nano at 16 x 16, 128 images a step in 1 part, ")
    assert sum("starting from" in line for line in said) == 1, "the tuned cell starts from its parent's weights"
    tables = {"top.csv", "cells.csv", "rounds.csv"}
    assert {"report.html", "report.md", "line.png", "study.yaml", "cells", *tables} == {p.name for p in out.iterdir()}
    assert "1437 training and 360 validation images." in (out / "report.md").read_text()
    tuned = RunFolder(out / "cells" / "log_cpb-0-tuned" / "run")
    assert yaml.safe_load(tuned.config.read_text())["model"]["weights"].endswith("log_cpb-0/run/best.safetensors")

    said.clear()
    drawn = []
    counting = replace(tiny_study(), report=lambda *given: drawn.append(given) or tiny_study().report(*given))
    again = run_study("tiny", counting, SETTING, out, say=said.append)
    assert len(drawn) == 1, "nothing is new, so that there is one report"
    assert not any("epoch" in line or "planned" in line for line in said)
    assert [each.figures for each in again] == [each.figures for each in done]


@pytest.mark.slow
def test_an_interrupted_study_goes_on_within_its_cell(tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    whole = run_study("tiny", tiny_study(), SETTING, tmp_path / "whole", say=silent)
    out = tmp_path / "out"

    def stop(line: str) -> None:
        if line.startswith("  log_cpb-0: epoch 1/2"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="2 of 4 cells are done; the same command with --out"):
        run_study("tiny", tiny_study(), SETTING, out, say=stop)
    assert (out / "report.html").exists()
    assert not (out / "cells" / "log_cpb-0" / RESULT).exists()
    first = (out / "cells" / "table-0" / RESULT).stat().st_mtime_ns

    done = run_study("tiny", tiny_study(), SETTING, out, say=silent)
    assert (out / "cells" / "table-0" / RESULT).stat().st_mtime_ns == first
    assert without_time(done) == without_time(whole), "as if nothing had happened"


@pytest.mark.slow
def test_a_training_that_is_cut_off_before_its_only_validation_is_not_done(
    tiny_study: Callable[..., Study], tmp_path: Path
) -> None:
    """The row that an interrupt leaves is of a part of a round, which may be all of the training."""
    whole = tiny_study(**{"trainer.validate_every": 2})
    study = replace(whole, cells=lambda setting: [cell for cell in whole.cells(setting) if cell.name == "table-0"])

    def stop(line: str) -> None:
        if line.startswith("  table-0: ") and line.endswith(", on cpu"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="0 of 1 cells are done"):
        run_study("tiny", study, SETTING, tmp_path / "out", say=stop)
    run = tmp_path / "out" / "cells" / "table-0" / "run"
    assert [(row["step"], row["epoch"]) for row in RunFolder(run).rows] == [(1, pytest.approx(1 / 11, abs=1e-4))]

    (done,) = run_study("tiny", study, SETTING, tmp_path / "out", say=silent)
    assert [(row["step"], row["epoch"]) for row in done.figures["rows"]] == [(22, 2)]
    assert [row["step"] for row in RunFolder(run).rows] == [22]


@pytest.mark.slow
def test_a_training_that_diverges_is_a_result(tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    study = tiny_study(**{"optimizer.base_lr": 1e30, "optimizer.clip_norm": None, "schedule.warmup_epochs": 0})
    done = run_study("tiny", study, SETTING, tmp_path / "out", say=silent)
    assert "the loss is " in done[1].figures["diverged"]
    assert done[1].figures["top1"] is None
    assert done[3].figures["diverged"] == "log_cpb-0, from which it starts, diverged"
    assert (tmp_path / "out" / "report.html").exists()


def test_a_folder_of_another_study_is_refused(tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"study": "tiny", "scale": "laptop", "data": "photos"}))
    with pytest.raises(ValueError, match="holds a study that differs in data: choose another --out"):
        run_study("tiny", tiny_study(), SETTING, tmp_path, say=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize("text", ["a: [", "words", "\x00"])
def test_a_damaged_configuration_is_named(text: str, tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"study\.yaml is damaged: choose another --out"):
        run_study("tiny", tiny_study(), SETTING, tmp_path, say=silent)
    assert (tmp_path / "study.yaml").read_text() == text


@pytest.mark.parametrize("text", ['{"rows": [', "[]"])
def test_damaged_figures_are_named(text: str, tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    whole = tiny_study()
    study = replace(whole, cells=lambda setting: [cell for cell in whole.cells(setting) if cell.changes is None])
    run_study("tiny", study, SETTING, tmp_path / "out", say=silent)
    path = tmp_path / "out" / "cells" / "untrained" / RESULT
    before = path.read_text()
    path.write_text(text)
    with pytest.raises(ValueError, match=r"figures\.json is damaged: delete it, and the same command measures"):
        run_study("tiny", study, SETTING, tmp_path / "out", say=silent)
    path.unlink()
    run_study("tiny", study, SETTING, tmp_path / "out", say=silent)
    assert json.loads(path.read_text()).keys() == json.loads(before).keys()


def test_more_seeds_may_follow_but_no_other_trainings(tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    study = tiny_study()
    cells = {cell.name: cell for cell in study.cells(SETTING)}
    before = _configuration("tiny", SETTING, recipes(study, SETTING, cells))
    less = {**before, "trainings": {"table-0": before["trainings"]["table-0"]}, "seeds": 5}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(less))
    _check_folder(tmp_path, before)
    less["trainings"]["table-0"] = {**less["trainings"]["table-0"], "seed": 7}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(less))
    with pytest.raises(ValueError, match="holds a study that differs in table-0: choose another --out"):
        _check_folder(tmp_path, before)


def test_a_folder_of_something_else_is_refused(tiny_study: Callable[..., Study], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="exists and is no folder of a study: choose another --out"):
        run_study("tiny", tiny_study(), SETTING, tmp_path, say=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_data_too_small_for_the_split_are_refused(
    tiny_study: Callable[..., Study], class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    few = Setting(data=str(class_folders(counts={"cat": 70, "dog": 70})))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="has 112 training images, fewer than the 128 of one step"):
        run_study("tiny", tiny_study(), few, out, say=silent)
    with pytest.raises(ValueError, match="has 28 validation images, too few to compare accuracies by"):
        run_study("tiny", tiny_study(**{"trainer.batch_size": 8}), few, out, say=silent)
    single = Setting(data=str(class_folders("single", counts={"cat": 1, "dog": 1})))
    with pytest.raises(ValueError, match="has one image a class: add more"):
        run_study("tiny", tiny_study(), single, out, say=silent)
    assert not out.exists()


def test_a_plan_runs_nothing(tiny_study: Callable[..., Study]) -> None:
    told = planned(tiny_study(), SETTING)
    assert told.startswith("4 cells, 3 of them trained; planned: swinv2_nano at 16 x 16")
