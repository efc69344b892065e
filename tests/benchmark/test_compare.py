"""The comparison with the other libraries, on images of 32 pixels."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("timm")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import common
import compare
from common import Case, Store
from compare import CONTEST, ROWS
from contest import Row

from swinv2.benchmark.report import number

SMALL = Row("inference", Case(4, 32, 1), "fp32", False)


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(
        out=tmp_path, device=torch.device("cpu"), overwrite=False, rounds=2, seconds=1.0, no_memory=True, threads=1
    )


def test_a_row_has_every_library_and_its_ratio(options: argparse.Namespace, one_thread: None) -> None:
    row = CONTEST.measure(SMALL, options)
    rates = row["images_per_second"]
    assert set(rates) == {"swinv2", "timm", "transformers"}
    assert row["errors"] == {}
    assert row["ratio"] == pytest.approx(rates["swinv2"] / max(rates["timm"], rates["transformers"]))
    store = Store("compare", options)
    store.add(str(SMALL), row)
    text = CONTEST.report(store)
    assert f"| inference w4 32 b1 fp32 eager | {number(rates['swinv2'])} |" in text
    compare.draw(store)
    assert store.path.with_suffix(".png").stat().st_size > 1000


def test_a_library_that_fails_is_named_and_the_row_goes_on(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    def fail(library: str, *others: object) -> None:
        raise RuntimeError(f"no {library}")

    monkeypatch.setattr(compare, "build_peer", fail)
    row = CONTEST.measure(SMALL, options)
    assert set(row["images_per_second"]) == {"swinv2"}
    assert row["errors"] == {"timm": "RuntimeError: no timm", "transformers": "RuntimeError: no transformers"}
    assert row["ratio"] is None


def test_memory_of_a_training_step_holds_the_moments(capsys: pytest.CaptureFixture[str], one_thread: None) -> None:
    row = Row("training", Case(4, 32, 1), "fp32", False)
    replace(CONTEST, rows=[row]).print_memory(str(row), "swinv2", torch.device("cpu"))
    printed = json.loads(capsys.readouterr().out)
    parameters = sum(4 * p.numel() for p in row.case.build().parameters())
    assert 3 * parameters < printed["peak_bytes"] < 3.5 * parameters


def test_rows_are_kept_and_replaced_one_by_one(options: argparse.Namespace) -> None:
    store = Store("compare", options)
    store.add("a", {"value": 1})
    store.add("b", {"value": 2})
    again = Store("compare", options)
    again.add("a", {"value": 3})
    kept = json.loads(again.path.read_text())["results"]
    assert kept == [{"name": "a", "value": 3}, {"name": "b", "value": 2}]


def test_results_of_another_machine_are_not_mixed(options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    Store("compare", options).add("a", {"value": 1})
    other = {**common.describe(options.device), "versions": {"torch": "1.0"}}
    monkeypatch.setattr(common, "describe", lambda device: other)
    with pytest.raises(SystemExit, match="was measured on another machine"):
        Store("compare", options)
    options.overwrite = True
    assert Store("compare", options).rows == {}


def test_the_rows_are_named_apart() -> None:
    names = [str(row) for row in ROWS]
    assert len(set(names)) == len(names) == 24
    assert "inference w8 256 b8 fp32 eager" in names
    assert "training w24 384 b2 bf16 autocast compiled" in names
