"""The published recipes of detection against a table written down here from the papers.

Learning rates are effective ones: those of the step, at the recipe's own batch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from swinv2.config import make_config
from swinv2.model.block import DropPath, SwinBlock
from swinv2.model.detect import detector_config
from swinv2.model.detect.native import SwinDetector
from swinv2.train.detect import initial
from swinv2.train.optim import optimise
from swinv2.train.options import Recipe
from swinv2.train.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
COCO, OBJECTS365 = 118_287, 1_742_289


class Row(NamedTuple):
    name: str
    window: int
    trained: tuple[int, ...]
    drop_path: float
    size: tuple[int, int]
    detector: str
    masks: bool
    epochs: int | None
    steps: int | None
    batch: int
    lr: float
    backbone_lr: float


def cascade(name: str, drop_path: float) -> Row:
    return Row(name, 16, (8,) * 4, drop_path, (800, 1333), "cascade_mask_rcnn", True, 36, None, 16, 1e-4, 1e-4)


def htc(name: str, size: tuple[int, int] = (1536, 1536), masks: bool = True, **other: object) -> Row:
    row = Row(name, 32, (12, 12, 12, 6), 0.3, size, "htc_plus_plus", masks, 36, None, 64, 4e-4, 4e-5)
    return row._replace(**other)


TABLE = {
    "coco_cascade_tiny_w16": cascade("swinv2_tiny", 0.2),
    "coco_cascade_small_w16": cascade("swinv2_small", 0.3),
    "coco_cascade_base_w16": cascade("swinv2_base", 0.5),
    "coco_htcpp_base_w32_1536": htc("swinv2_base"),
    "coco_htcpp_large_w32_1536": htc("swinv2_large"),
    "objects365_htcpp_giant_w32": htc(
        "swinv2_giant", (1024, 1333), False, epochs=None, steps=67_500, batch=96, lr=1.2e-3, backbone_lr=1.2e-3
    ),
    "coco_htcpp_giant_w32_1536": htc("swinv2_giant", epochs=None, steps=45_000, batch=96, lr=6e-4, backbone_lr=6e-4),
}


def read(name: str) -> Recipe:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    return replace(recipe, model=replace(recipe.model, weights=None)).completed()


def on_meta(recipe: Recipe) -> SwinDetector:
    options = recipe.model
    config = make_config(
        str(options.name),
        window_size=options.window_size,
        image_size=options.size,
        num_classes=80,
        **{"trained_window_size": 12} | options.overrides,
    )
    with torch.device("meta"):
        heads = detector_config(recipe.detect.detector, **recipe.detect.heads)
        return SwinDetector(config, **heads.to_dict())


def test_the_table_has_every_published_recipe_of_detection() -> None:
    assert sorted(TABLE) == sorted(
        path.stem for path in RECIPES.glob("*.yaml") if path.stem.startswith(("coco", "obj"))
    )


@pytest.mark.parametrize("name", TABLE)
def test_recipe(name: str) -> None:
    recipe, row = read(name), TABLE[name]
    model = on_meta(recipe)
    assert (recipe.model.name, recipe.model.size, recipe.detect.detector) == (row.name, row.size, row.detector)
    assert {window for windows in model.config.window_size for window in windows} == {row.window}
    if "trained_window_size" in recipe.model.overrides:  # else the weights tell it
        assert model.config.trained_window_size == tuple((window, window) for window in row.trained)
    assert model.config.drop_path_rate == row.drop_path
    assert model.settings.masks == row.masks
    assert (recipe.trainer.epochs, recipe.trainer.steps, recipe.trainer.batch_size) == (
        row.epochs,
        row.steps,
        row.batch,
    )
    assert recipe.optimizer.weight_decay == 0.05
    images = OBJECTS365 if name.startswith("obj") else COCO
    optimizer = optimise(model, recipe=recipe, total_steps=row.steps or row.epochs * (images // row.batch))["optimizer"]
    inside = {id(parameter) for parameter in model.backbone.parameters()}
    rates = {True: set(), False: set()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[id(parameter) in inside].add(group["initial_lr"])
    assert max(rates[False]) == pytest.approx(row.lr)
    assert max(rates[True]) == pytest.approx(row.backbone_lr)
    assert len(rates[True]) == len(rates[False]) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_step_of_the_largest_htc_that_fits_a_laptop() -> None:
    """SwinV2-L with HTC++ as its recipe has it, all 258 million parameters, checkpointed and with sequential attention,
    on a small image: every loss is finite, and every parameter gets a gradient and moves.
    """
    recipe = read("coco_htcpp_large_w32_1536")
    model = initial(recipe, [f"class {number}" for number in range(80)]).model
    attention = [block.attention.body for block in model.modules() if isinstance(block, SwinBlock)]
    assert [each.backend for each in attention] == ["sequential"] * 4 + ["auto"] * 20
    assert all(block.checkpointing for block in model.modules() if isinstance(block, SwinBlock))
    assert 250e6 < sum(p.numel() for p in model.parameters()) < 270e6
    for module in model.modules():
        if isinstance(module, DropPath):  # a branch that is dropped for the only image has no gradient
            module.rate = 0.0
    for name, parameter in model.backbone.named_parameters():
        if "norm" in name and name.endswith("weight"):  # at their initial zeros nothing in a block would learn
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 20, 120, 150], [100, 30, 240, 180], [30, 90, 90, 170]])
    masks = torch.zeros(3, 192, 256, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    losses = model([torch.randn(3, 192, 256)], [{"boxes": boxes, "labels": torch.tensor([1, 40, 80]), "masks": masks}])
    stages = [f"loss_{kind}_{n}" for n in (1, 2, 3) for kind in ("classifier", "box_reg", "mask")]
    assert sorted(losses) == sorted(["loss_objectness", "loss_rpn_box_reg", *stages])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    before = model.backbone.patch_embed.projection.weight.clone()
    optimizer.step()
    assert not torch.equal(model.backbone.patch_embed.projection.weight, before)
