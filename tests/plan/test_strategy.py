import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from swinv2.checkpoint.record import num_parameters
from swinv2.config import VARIANTS, make_config
from swinv2.model import SwinTransformer
from swinv2.plan.measuring import comparable
from swinv2.plan.planning import plan
from swinv2.plan.recorder import Moment, Segment
from swinv2.plan.settings import Settings
from swinv2.plan.strategy import communicated, peak, states
from swinv2.plan.trace import Trace

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import plan_table

SMALL: dict[str, Any] = {"image_size": (64, 64), "precision": "fp32", "device": "cpu"}


def shapes_only(name: str) -> Trace:
    with torch.device("meta"):
        model = SwinTransformer(VARIANTS[name])
    shapes = tuple(tuple(p.shape) for p in model.parameters())
    return Trace((shapes,), ("all",), (), 1, 3, 0.0, 0)


@pytest.mark.parametrize("name", ["swinv2_nano", "swin_tiny", "swinv2_large", "swinv2_video_small", "swinv2_giant"])
def test_states_are_parameters_times_bytes(name: str) -> None:
    made, count = shapes_only(name), num_parameters(VARIANTS[name])
    held = states(made, Settings(**SMALL))
    assert (held.weights, held.gradients) == (4 * count, 4 * count)
    assert held.optimiser == 8 * count + 4 * len(made.shapes[0])


def test_three_billion_parameters_take_the_papers_48_gb() -> None:
    held = states(shapes_only("swinv2_giant"), Settings(**SMALL))
    assert held.total == pytest.approx(48e9, rel=0.01)


def test_zero1_shares_moments_and_fsdp_everything() -> None:
    made = shapes_only("swinv2_base")
    whole = states(made, Settings(**SMALL))
    for devices in (2, 8):
        zero1 = states(made, Settings(**SMALL, devices=devices, strategy="zero1"))
        assert (zero1.weights, zero1.gradients) == (whole.weights, whole.gradients)
        assert zero1.optimiser == pytest.approx(whole.optimiser / devices, rel=0.01)
        fsdp = states(made, Settings(**SMALL, devices=devices, strategy="fsdp"))
        assert whole.total / devices <= fsdp.total < 1.01 * whole.total / devices
    with plan_table.ranks(2):
        parameters = [torch.nn.Parameter(torch.empty(shape)) for shape in made.shapes[0]]
        made_by_torch = plan_table.ZeroRedundancyOptimizer(parameters, plan_table.AdamW, lr=1.0)
        largest = max(
            sum(8 * p.numel() + 4 for group in rank for p in group["params"])
            for rank in made_by_torch._partition_parameters()
        )
    assert states(made, Settings(**SMALL, devices=2, strategy="zero1")).optimiser == largest


def test_each_strategy_counts_gradients_where_they_are() -> None:
    segments = (
        Segment(1, True, {"as they come": Moment(50, 5, 10, 0), "elsewhere": Moment(90), "held": Moment(60, 0, 16, 8)}),
    )
    made = Trace((((8, 2),), ((16, 4),)), ("outside blocks", "block 1"), segments, 1, 3, 0.0, 0)
    alone = Settings(**SMALL)
    held = states(made, alone)
    assert (held.weights, held.optimiser) == (4 * 80, 8 * 80 + 8)
    assert peak(made, alone).when == "optimiser's step"  # 320 bytes of gradients and nothing else
    big = replace(segments[0], peaks={name: replace(m, activations=1000) for name, m in segments[0].peaks.items()})
    made = replace(made, segments=(big,))
    assert peak(made, alone).parts == {
        "weights": 320,
        "gradients": 10,
        "optimiser": 648,
        "gathered": 0,
        "activations": 1000,
        "workspace": 5,
    }
    assert peak(made, replace(alone, devices=2, strategy="ddp")).gradients == 320
    fsdp = peak(made, replace(alone, devices=2, strategy="fsdp"))
    assert (fsdp.weights, fsdp.gradients) == (160, 4)
    assert fsdp.gathered == 8 + 4 * 16 + 4 * 64  # held gradients, the root, the block; there is none before or after
    fp16 = peak(replace(made, segments=segments), replace(alone, precision="fp16"))
    assert fp16.workspace == 648 // 2


def test_bytes_sent() -> None:
    made = shapes_only("swinv2_tiny")
    whole = 4 * num_parameters(VARIANTS["swinv2_tiny"])
    assert communicated(made, Settings(**SMALL)) == 0
    assert communicated(made, Settings(**SMALL, devices=4, strategy="ddp")) == 2 * whole * 3 // 4
    assert communicated(made, Settings(**SMALL, devices=4, strategy="fsdp")) == 3 * whole * 3 // 4


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param({"strategy": "ddp"}, marks=pytest.mark.slow),
        {"strategy": "zero1"},
        {"strategy": "fsdp"},
        pytest.param({"strategy": "fsdp", "checkpointing": "block"}, marks=pytest.mark.slow),
    ],
)
def test_the_first_of_several_ranks_takes_what_is_planned(rest: dict[str, Any]) -> None:
    config = make_config("swinv2_nano", window_size=8, image_size=64)
    settings = Settings(**SMALL, batch=2, devices=4, **rest)
    real, planned = plan_table.sharded(config, settings), comparable(plan(config, settings))
    assert planned == pytest.approx(real, rel=0.01)
