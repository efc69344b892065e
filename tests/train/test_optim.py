import math

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from swinv2.model import create_model
from swinv2.train.optim import learning_rate, optimise, parameter_groups, undecayed
from swinv2.train.options import ClassifyRecipe, OptimizerOptions, ScheduleOptions, TrainerOptions

SMALL = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 3, "image_size": 32, "window_size": 4}


BLOCK_MATRICES = (
    "attention.body.qkv.weight",
    "attention.body.proj.weight",
    "mlp.body.fc1.weight",
    "mlp.body.fc2.weight",
)


@pytest.mark.parametrize("name", ["swinv2_nano", "swin_tiny"])
def test_decay_is_on_exactly_the_matrices_outside_position_biases(name: str) -> None:
    """V2's bias networks are matrices and V1's bias tables have three axes: neither decays."""
    model = create_model(name, **SMALL)
    assert {parameter for parameter, _ in model.named_parameters()} - undecayed(model) == {
        "patch_embed.projection.weight",
        *(f"stages.0.blocks.0.{matrix}" for matrix in BLOCK_MATRICES),
        "stages.1.merge.reduction.weight",
        *(f"stages.1.blocks.0.{matrix}" for matrix in BLOCK_MATRICES),
        "head.weight",
    }


def test_groups_hold_every_trainable_parameter_once() -> None:
    model = create_model("swinv2_nano", **SMALL)
    model.patch_embed.requires_grad_(False)
    groups = parameter_groups(model, 0.05)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]


def test_the_cosine_is_the_one_of_the_released_code() -> None:
    """Swin's build_scheduler: timm's cosine over the steps that the warm-up leaves, its warm-up first."""
    options, warmup, total = ScheduleOptions(warmup_lr=1e-6, min_lr=1e-5), 7, 50
    timm = CosineLRScheduler(
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3),
        t_initial=total - warmup,
        lr_min=options.min_lr,
        warmup_lr_init=options.warmup_lr,
        warmup_t=warmup,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    for step in range(total):
        ours = learning_rate(step, peak=1e-3, options=options, warmup=warmup, total=total)
        assert math.isclose(ours, timm._get_lr(step)[0], rel_tol=1e-9)


@pytest.mark.parametrize(("kind", "middle", "end"), [("linear", 0.55, 0.1), ("constant", 1.0, 1.0)])
def test_other_curves(kind: str, middle: float, end: float) -> None:
    options = ScheduleOptions(kind=kind, warmup_lr=0.0, min_lr=0.1)
    rates = [learning_rate(step, peak=1.0, options=options, warmup=2, total=12) for step in (0, 1, 2, 7, 12, 99)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, middle, end, end])


def test_rates_scale_with_the_batch_and_the_warm_up_with_the_epochs() -> None:
    recipe = ClassifyRecipe(
        optimizer=OptimizerOptions(base_lr=1e-3),
        schedule=ScheduleOptions(warmup_epochs=2.5, warmup_lr=1e-4, min_lr=1e-5),
        trainer=TrainerOptions(epochs=10, batch_size=128),
    )
    made = optimise(create_model("swinv2_nano", **SMALL), recipe=recipe, total_steps=40)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(1e-4 / 4)
    assert max(rates) == rates[10] == pytest.approx(1e-3 / 4)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(1e-5 / 4)
