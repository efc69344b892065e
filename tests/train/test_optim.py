import bisect
import math
import re

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from swinv2.config import VARIANTS
from swinv2.model import SwinBackbone, SwinTransformer, create_model
from swinv2.train.optim import layer_ids, learning_rate, optimise, parameter_groups, undecayed
from swinv2.train.options import OptimizerOptions, Recipe, ScheduleOptions, TrainerOptions

SMALL = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 3, "image_size": 32, "window_size": 4}
MATRICES = re.compile(
    r"patch_embed\.projection\.weight|stages\.\d+\.merge\.reduction\.weight|head\.weight"
    r"|stages\.\d+\.blocks\.\d+\.(attention\.body\.(qkv|proj)|mlp\.body\.(fc1|fc2))\.weight"
)


def on_meta(name: str) -> SwinTransformer:
    with torch.device("meta"):
        return SwinTransformer(VARIANTS[name])


@pytest.mark.parametrize("name", VARIANTS)
def test_decay_is_on_exactly_the_matrices_outside_position_biases(name: str) -> None:
    """V2's bias networks are matrices and V1's bias tables have three axes: neither decays."""
    model = on_meta(name)
    parameters = dict(model.named_parameters())
    expected = {each for each in parameters if MATRICES.fullmatch(each)}
    assert set(parameters) - undecayed(model) == expected
    decayed, free = parameter_groups(model, 0.05)
    names = {id(parameter): each for each, parameter in parameters.items()}
    assert {names[id(p)] for p in decayed["params"]} == expected
    assert {names[id(p)] for p in free["params"]} == set(parameters) - expected
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_undecayed_are_those_of_the_released_rule(name: str) -> None:
    """1-D, biases, cpb_mlp, logit_scale, relative_position_bias_table: by our names."""
    model = on_meta(name)
    keywords = ("position_bias", "logit_scale")
    assert undecayed(model) == {
        each
        for each, parameter in model.named_parameters()
        if parameter.ndim == 1 or each.endswith("bias") or any(keyword in each for keyword in keywords)
    }


def test_a_mask_token_does_not_decay_and_is_in_the_first_layer() -> None:
    model = create_model("swinv2_nano", **SMALL)
    model.register_parameter("mask_token", nn.Parameter(torch.zeros(1, 8, 1, 1)))
    assert "mask_token" in undecayed(model)
    assert layer_ids(model)["mask_token"] == 0


def released_layer(name: str, depths: tuple[int, ...]) -> int:
    """Of SimMIM's get_swin_layer, by our names: there a stage ends with its downsample."""
    parts = name.split(".")
    if parts[0] in ("patch_embed", "mask_token"):
        return 0
    if parts[0] != "stages":
        return sum(depths) + 1
    stage = int(parts[1])
    if parts[2] == "merge":  # the released downsample of the stage before
        return sum(depths[: stage - 1]) + depths[stage - 1]
    return sum(depths[:stage]) + int(parts[3]) + 1


@pytest.mark.parametrize("name", VARIANTS)
def test_layers_are_numbered_as_in_the_released_code(name: str) -> None:
    model, depths = on_meta(name), VARIANTS[name].depths
    assert layer_ids(model) == {each: released_layer(each, depths) for each, _ in model.named_parameters()}


def test_layer_decay_scales_each_layers_peak() -> None:
    model = create_model("swinv2_tiny", **{**SMALL, "depths": (2, 1)})
    recipe = Recipe(
        optimizer=OptimizerOptions(base_lr=1.0, layer_decay=0.5),
        schedule=ScheduleOptions(warmup_epochs=1, warmup_lr=0.01, min_lr=0.02),
        trainer=TrainerOptions(epochs=4, batch_size=512),
    )
    made = optimise(model, recipe=recipe, total_steps=8)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    begun = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert list(begun.values()) == pytest.approx([0.01] * len(begun))
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    peaks = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert peaks == {
        name: pytest.approx(0.5 ** (4 - released_layer(name, (2, 1)))) for name, _ in model.named_parameters()
    }


def test_groups_hold_every_trainable_parameter_once() -> None:
    model = create_model("swinv2_nano", **SMALL)
    model.patch_embed.requires_grad_(False)
    for layer_decay in (None, 0.75):
        groups = parameter_groups(model, 0.05, layer_decay=layer_decay)
        held = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)


class Detector(nn.Module):
    """A backbone under heads, whose names look like a backbone's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.backbone = SwinBackbone(create_model("swinv2_nano", **SMALL), (0, -1))
        self.stages = nn.ModuleList([nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4)])})])
        self.patch_embed = nn.Conv2d(4, 4, 1)


HEADS = ("stem.", "stages.", "patch_embed.", "backbone.norms.")


def rates_by_name(model: nn.Module, **options: float) -> dict[str, float]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.05, **options)
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def test_layers_of_a_backbone_are_those_of_its_classifier_and_heads_have_the_full_rate() -> None:
    model, plain = Detector(), create_model("swinv2_nano", **SMALL)
    rates, alone = (rates_by_name(each, layer_decay=0.5) for each in (model, plain))
    assert {name: rate for name, rate in rates.items() if name.startswith(HEADS)} == {
        name: 1.0 for name in rates if name.startswith(HEADS)
    }
    body = {name: rate for name, rate in rates.items() if not name.startswith(HEADS)}
    assert body == {f"backbone.{name}": rate for name, rate in alone.items() if not name.startswith(("norm.", "head."))}
    assert min(body.values()) == 0.5**3


def test_a_factor_lowers_all_rates_of_the_backbone_alone() -> None:
    model = Detector()
    rates = rates_by_name(model, base_lr=2.0, backbone_lr_factor=0.1)
    assert rates == {name: pytest.approx(0.2 if name.startswith("backbone.") else 2.0) for name in rates}
    both = rates_by_name(model, base_lr=2.0, layer_decay=0.5, backbone_lr_factor=0.1)
    decayed = rates_by_name(model, base_lr=0.2, layer_decay=0.5)
    assert all(both[name] == pytest.approx(decayed[name]) for name in rates if name.startswith("backbone."))
    groups = parameter_groups(model, 0.05, layer_decay=0.5, backbone_lr_factor=0.1)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, model.parameters()))


def test_a_factor_scales_the_schedule_from_its_first_rate_to_its_last() -> None:
    recipe = Recipe(
        optimizer=OptimizerOptions(base_lr=1e-3, backbone_lr_factor=0.1),
        schedule=ScheduleOptions(warmup_steps=4, warmup_lr=1e-4, min_lr=1e-5),
        trainer=TrainerOptions(epochs=10, batch_size=256),
    )
    made = optimise(Detector(), recipe=recipe, total_steps=20)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    seen = []
    for _ in range(21):
        seen.append(sorted({group["lr"] for group in optimizer.param_groups}))
        optimizer.step()
        scheduler.step()
    assert all(slow == pytest.approx(0.1 * fast) for slow, fast in seen)
    assert [seen[step][1] for step in (0, 4, 20)] == pytest.approx([0.5e-4, 0.5e-3, 0.5e-5])


def test_a_factor_without_a_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backbone_lr_factor 0\.1 is for a backbone under a head of its own"):
        parameter_groups(create_model("swinv2_nano", **SMALL), 0.05, backbone_lr_factor=0.1)


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_poly_is_that_of_the_segmentation_codes(power: float) -> None:
    """(base - min) * (1 - progress) ** power + min, as mmengine's PolyLR by steps."""
    options = ScheduleOptions(kind="poly", power=power, warmup_lr=0.0, min_lr=0.1)
    for step in range(2, 13):
        expected = (1.0 - 0.1) * (1 - (step - 2) / 10) ** power + 0.1
        assert learning_rate(step, peak=1.0, options=options, warmup=2, total=12) == pytest.approx(expected)


def test_milestones_of_a_length_in_steps_are_steps() -> None:
    recipe = Recipe(
        schedule=ScheduleOptions(kind="multistep", milestones=(11, 14), warmup_steps=0),
        trainer=TrainerOptions(epochs=None, steps=20, validate_every=10, batch_size=512),
    )
    rates = rates_of(recipe, 20)
    assert [rates[step] / rates[0] for step in (10, 11, 13, 14)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


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


def test_multi_step_falls_at_its_epochs_counted_from_the_start() -> None:
    """As SimMIM's MultiStepLRScheduler: gamma ** bisect_right(milestones, step), after the warm-up."""
    options = ScheduleOptions(kind="multistep", milestones=(4, 6), decay=0.1, warmup_lr=0.0)
    rates = [learning_rate(step, peak=1.0, options=options, warmup=5, total=30, epochs=10) for step in range(30)]
    expected = [step / 5 if step < 5 else 0.1 ** bisect.bisect_right([12, 18], step) for step in range(30)]
    assert rates == pytest.approx(expected)


def rates_of(recipe: Recipe, steps: int) -> list[float]:
    """The learning rate of every step."""
    made = optimise(create_model("swinv2_nano", **SMALL), recipe=recipe, total_steps=steps)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert {group["lr"] for group in optimizer.param_groups} == {optimizer.param_groups[0]["lr"]}
    return rates


@pytest.mark.parametrize("warmup", [{"warmup_epochs": 2.5}, {"warmup_steps": 10}])
def test_rates_scale_with_the_batch_and_the_warm_up_with_the_epochs(warmup: dict) -> None:
    recipe = Recipe(
        optimizer=OptimizerOptions(base_lr=1e-3),
        schedule=ScheduleOptions(**warmup, warmup_lr=1e-4, min_lr=1e-5),
        trainer=TrainerOptions(epochs=10, batch_size=128),
    )
    rates = rates_of(recipe, 40)
    assert rates[0] == pytest.approx(1e-4 / 4)
    assert max(rates) == rates[10] == pytest.approx(1e-3 / 4)
    assert rates[40] == pytest.approx(1e-5 / 4)


def test_a_warm_up_of_all_steps_is_refused() -> None:
    recipe = Recipe(schedule=ScheduleOptions(warmup_steps=40), trainer=TrainerOptions(epochs=10))
    with pytest.raises(ValueError, match="warmup_steps 40 takes all of the 40 steps"):
        optimise(create_model("swinv2_nano", **SMALL), recipe=recipe, total_steps=40)
