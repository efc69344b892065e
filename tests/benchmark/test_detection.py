"""Mask R-CNN beside the same heads on timm's backbone, on images of 64 x 96 pixels."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("timm")
pytest.importorskip("torchvision")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import detection
from common import Store
from detection import Row, agreement, measure, print_memory, report

SMALL = Row("inference", 2, (64, 96))


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Everywhere here."""


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    common = {"device": torch.device("cpu"), "overwrite": False, "rounds": 2, "seconds": 1.0, "threads": 1}
    return argparse.Namespace(out=tmp_path, no_memory=True, model="swinv2_nano", **common)


@pytest.mark.slow
def test_both_backbones_find_the_same_and_are_timed(options: argparse.Namespace) -> None:
    row = measure(SMALL, options)
    assert (set(row["images_per_second"]), row["errors"]) == ({"swinv2", "timm"}, {})
    assert row["agreement"] == pytest.approx(1.0, abs=0.05)
    store = Store("detection", options)
    store.add(str(SMALL), row)
    assert f"| inference w2 64x96 | {detection.number(row['images_per_second']['swinv2'])} |" in report(store)


@pytest.mark.slow
def test_other_weights_are_not_timed(options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Row.detectors

    def spoilt(self: Row, model: str) -> dict[str, torch.nn.Module]:
        both = made(self, model)
        torch.nn.init.normal_(both["timm"].backbone.body.patch_embed.proj.weight)
        return both

    monkeypatch.setattr(Row, "detectors", spoilt)
    with pytest.raises(SystemExit, match="detections are the same with both backbones"):
        agreement(SMALL, options)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_of_a_training_step_holds_the_moments(
    options: argparse.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row("training", 2, (64, 96))
    print_memory(row, "timm", options)
    printed = json.loads(capsys.readouterr().out)
    parameters = sum(4 * p.numel() for p in row.detectors("swinv2_nano")["timm"].parameters())
    assert printed["peak_bytes"] > 2 * parameters
