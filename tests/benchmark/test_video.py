"""The comparison of models of clips with torchvision, on 4 frames of 32 pixels."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchvision")
pytest.importorskip("timm")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from common import Store
from contest import Row
from video import CONTEST, MODELS, OURS, PEER, ROWS, Case

from swinv2.benchmark.report import number

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Row("inference", Case(4, 32, 1), "fp32", False)


def test_a_row_has_every_model_and_the_ratio_of_the_same_two(tmp_path: Path) -> None:
    options = argparse.Namespace(
        out=tmp_path, device=torch.device("cpu"), overwrite=False, rounds=2, seconds=1.0, no_memory=True, threads=1
    )
    row = CONTEST.measure(SMALL, options)
    rates = row["clips_per_second"]
    assert (set(rates), row["errors"]) == (set(MODELS), {})
    assert row["ratio"] == pytest.approx(rates[OURS] / rates[PEER])
    store = Store("video", options)
    store.add(str(SMALL), row)
    assert f"| inference 4x32x32 b1 fp32 eager | {number(rates['V2 8x7x7'])} |" in CONTEST.report(store)


def test_torchvision_has_our_weights_and_drop_path() -> None:
    ours, peer = MODELS[OURS](SMALL.case, 0.2), MODELS[PEER](SMALL.case, 0.2)
    assert torch.equal(peer.head.weight, ours.head.weight)
    assert torch.equal(peer.patch_embed.proj.weight, ours.patch_embed.projection.weight)
    depths = [module.p for module in peer.modules() if type(module).__name__ == "StochasticDepth"]
    assert max(depths) == pytest.approx(0.2)


def test_memory_is_of_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    replace(CONTEST, rows=[SMALL]).print_memory(str(SMALL), OURS, torch.device("cpu"))
    printed = json.loads(capsys.readouterr().out)
    tokens = 2 * 8 * 8 * 96 * 4
    assert tokens < printed["peak_bytes"] < 100 * tokens


def test_the_rows_are_named_apart() -> None:
    names = [str(row) for row in ROWS]
    assert len(set(names)) == len(names) == 12
    assert "training 16x224x224 b2 bf16 autocast compiled" in names
