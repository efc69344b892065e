"""A weights file and a recipe of a tiny model, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from swinv2.checkpoint import save
from swinv2.cli import main
from swinv2.model import SwinTransformer, create_model
from swinv2.preprocessing import Preprocessing

TINY = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "patch_size": [2, 2]}

RECIPE = f"""
model: {{image_size: 8, window_size: 2, overrides: {TINY}}}
data: {{workers: 0}}
augment: {{crop: none, rand_augment: null, erase: 0}}
schedule: {{warmup_epochs: 0.5}}
trainer: {{epochs: 2, batch_size: 8, accelerator: cpu}}
"""


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Everywhere below this folder."""


@pytest.fixture
def swinv2(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run `swinv2 ARGUMENTS`."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def save_weights(tmp_path: Path, randomise: Callable[..., SwinTransformer]) -> Callable[..., Path]:
    """Write a tiny model of random weights for the classes."""

    def write(*classes: str, channels: int = 3, name: str = "weights.safetensors") -> Path:
        model = create_model(
            "swinv2_nano", image_size=8, window_size=2, num_classes=len(classes), in_channels=channels, **TINY
        )
        torch.nn.init.normal_(randomise(model).head.weight, generator=torch.Generator().manual_seed(0))
        preprocessing = Preprocessing(size=(8, 8), mean=(0.5,) * channels, std=(0.25,) * channels)
        save(model, tmp_path / name, classes=classes, preprocessing=preprocessing)
        return tmp_path / name

    return write


@pytest.fixture
def weights(save_weights: Callable[..., Path]) -> Path:
    """For the classes of `class_folders`, in another order and with one more."""
    return save_weights("owl", "fox", "dog", "cat")
