"""What the command line tells and writes of a detector's results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swinv2.config import make_config
from swinv2.info import ModelInfo
from swinv2.model.detect.native import SwinDetector
from swinv2.preprocessing import Preprocessing
from swinv2.storage import Stored, write

SMALL = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bilinear")
HEADS: dict[str, Any] = {"pyramid_channels": 8, "box_features": 8, "score_threshold": 0.0, "suppression_iou": 1.0}
"""Every proposal is a detection of every class, and none suppresses another."""
Run = Callable[..., Any]


@pytest.fixture
def weights(tmp_path: Path, randomise: Callable[..., SwinDetector]) -> Path:
    """A detector of random weights."""
    config = make_config(
        "swinv2_nano", image_size=32, window_size=2, embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2),
        num_classes=2,
    )  # fmt: skip
    model = randomise(SwinDetector(config, masks=True, **HEADS))
    info = replace(ModelInfo(), classes=("car", "owl"), preprocessing=SMALL)
    write(tmp_path / "w.safetensors", Stored(config, model.state_dict(), info, model.kind, model.head_config))
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_batches_have_an_image_or_more(swinv2: Run, weights: Path, coco_file: Callable[..., Path], count: str) -> None:
    told = swinv2("evaluate", "--weights", weights, "--data.path", coco_file().parent, "--batch-size", count)
    assert (told.status, told.out, told.err.count("\n")) == (2, "", 1)
    assert "batch_size" in told.err
