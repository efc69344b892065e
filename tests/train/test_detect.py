"""A run of detection with everything at once that saves memory, or holds the backbone back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import AdamW

from swinv2.checkpoint import save
from swinv2.model import create_model
from swinv2.model.attention import WindowAttention
from swinv2.preprocessing import Preprocessing
from swinv2.train import run
from swinv2.train.options import Recipe

Detection = Callable[..., Recipe]
INPUT = Preprocessing(size=(32, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
BASE = 0.5 * 2 / 512
"""The learning rate of the recipe's step of two images."""


@pytest.fixture
def weights(detection: Detection, tmp_path: Path, randomise: Callable[..., nn.Module]) -> Path:
    model = create_model(
        "swinv2_nano", window_size=2, image_size=(32, 32), num_classes=2, **detection().model.overrides
    )
    save(randomise(model), tmp_path / "weights.safetensors", classes=("a", "b"), preprocessing=INPUT)
    return tmp_path / "weights.safetensors"


@pytest.fixture
def held_back(detection: Detection, weights: Path) -> Detection:
    """With a frozen stage of two, a slow backbone, and a layer decay in it."""

    def make(**groups: dict[str, Any]) -> Recipe:
        model = {"weights": str(weights), "overrides": {"drop_path_rate": 0.0}, "frozen_stages": 1}
        rates = {"backbone_lr_factor": 0.1, "layer_decay": 0.5}
        return detection(model=model, optimizer=rates, **groups)

    return make


SAVING: dict[str, dict[str, Any]] = {
    "checkpointing": {"every": 1},
    "attention": {"backend": "sequential", "budget_mb": 0.001},
}


class Seen:
    """What runs made, and the backend of each pass through attention that learns, the names of its parts with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.optimizers: list[tuple[nn.Module, AdamW]] = []
        self.passes: list[str] = []
        optimise, forward = run.optimise, WindowAttention.forward

        def optimising(model: nn.Module, **options: Any) -> Any:
            made = optimise(model, **options)
            self.optimizers.append((model, made["optimizer"]))
            return made

        def attending(module: WindowAttention, x: Tensor) -> Tensor:
            if module.training and torch.is_grad_enabled():
                self.passes.append(module.backend)
            return forward(module, x)

        monkeypatch.setattr(run, "optimise", optimising)
        monkeypatch.setattr(WindowAttention, "forward", attending)


def expected_rate(name: str) -> float:
    """By hand: block 1 of the trained stage is a layer below the heads and the norms of the maps, block 0 two."""
    if not name.startswith("backbone."):
        return BASE
    below = {"backbone.stages.1.blocks.1": 1, "backbone.stages.1.blocks.0": 2, "backbone.stages.1.merge": 3}
    return 0.1 * BASE * 0.5 ** next((layers for start, layers in below.items() if name.startswith(start)), 0)


@pytest.mark.slow
def test_all_that_saves_memory_or_holds_back_together(
    held_back: Detection, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    plain = run.train(held_back(), tmp_path / "plain", say=lambda line: None)
    assert seen.passes == ["auto"] * 2 * 3, "the two blocks that learn, in three steps"
    seen.passes.clear()
    saving = run.train(held_back(**SAVING), tmp_path / "saving", say=lambda line: None)
    assert seen.passes == ["sequential"] * 2 * 2 * 3, "and once more in the backward pass"

    (before, after), model = (load_file(path) for path in (weights, saving.best)), seen.optimizers[-1][0]
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[1] for name in frozen} == {"patch_embed", "stages"}
    assert all(torch.equal(after[name], before[name.removeprefix("backbone.")]) for name in frozen)

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: g["lr"] for g in seen.optimizers[-1][1].param_groups for p in g["params"]}
    assert rates.keys() == set(names.values()) - frozen
    assert rates == pytest.approx({name: expected_rate(name) for name in rates})

    assert len(plain.rows) == len(saving.rows) == 1
    for name in ("train_loss", "val_box_ap", "val_mask_ap"):
        assert saving.rows[0][name] == pytest.approx(plain.rows[0][name], rel=1e-5)
    theirs = load_file(plain.best)
    assert max(float((after[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5
    kept = {name: before[name.removeprefix("backbone.")] for name in rates if name.removeprefix("backbone.") in before}
    moved = {rates[name] for name, tensor in kept.items() if not torch.equal(after[name], tensor)}
    assert moved == {rates[name] for name in kept}
