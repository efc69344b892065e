"""What a trace on fake tensors says, against what a real step does."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from swinv2.benchmark.roofline import work
from swinv2.config import make_config
from swinv2.model import SwinTransformer
from swinv2.model.block import SwinBlock
from swinv2.plan.measuring import comparable, measured
from swinv2.plan.planning import plan
from swinv2.plan.recorder import COUNTED, Recorder
from swinv2.plan.settings import Settings
from swinv2.plan.trace import configure, trace
from swinv2.plan.work import Work


@pytest.mark.parametrize(
    ("name", "window", "size", "rest"),
    [
        ("swinv2_nano", 8, 64, {"attention": "sdpa", "checkpointing": "block"}),
        ("swinv2_nano", 8, 64, {"precision": "bf16"}),
        ("swinv2_nano", 16, 128, {"attention": "sequential", "budget_mb": 4}),
        pytest.param("swin_tiny", 7, 112, {"attention": "reference"}, marks=pytest.mark.slow),
        pytest.param("swinv2_tiny", 8, 256, {}, marks=pytest.mark.slow),
    ],
)
def test_the_peak_is_what_a_real_step_takes(name: str, window: int, size: int, rest: dict[str, Any]) -> None:
    config = make_config(name, window_size=window, image_size=size)
    settings = Settings(image_size=(size, size), batch=2, device="cpu", **{"precision": "fp32", **rest})
    real, planned = measured(Work(config), settings).peak, comparable(plan(config, settings))
    assert planned == pytest.approx(real, rel=0.03)


def test_operations_are_those_of_linear_layers_attention_and_bias_networks() -> None:
    config = make_config("swinv2_nano", window_size=8, image_size=64)
    settings = Settings(image_size=(64, 64), batch=2, precision="fp32", device="cpu")
    plain, again = (
        trace(Work(config), Settings(**{**vars(settings), "checkpointing": each})) for each in ("none", "block")
    )
    offsets = [(2 * w[0] - 1) * (2 * w[1] - 1) for w in config.window_size]
    networks = sum(
        2 * number * 512 * (2 + heads) * depth
        for number, heads, depth in zip(offsets, config.num_heads, config.depths, strict=True)
    )
    on_paper = sum(part.flops for part in work(config, (64, 64), 2).values())
    assert plain.forward_flops == on_paper + networks
    assert again.forward_flops == plain.forward_flops
    blocks = again.step_flops - plain.step_flops  # all but patch embedding, mergings and head
    assert 0.8 * plain.forward_flops < blocks < plain.forward_flops
    assert 2.8 * plain.forward_flops < plain.step_flops < 3.3 * plain.forward_flops


@pytest.mark.parametrize(
    ("precision", "attention"),
    [("bf16", "auto"), ("fp16", "sequential"), ("fp32", "sdpa"), ("bf16", "triton"), ("fp32", "reference")],
)
def test_a_device_that_is_not_here(precision: str, attention: str) -> None:
    config = make_config("swinv2_nano", window_size=8, image_size=64)
    plain, again = (
        trace(
            Work(config),
            Settings(image_size=(64, 64), batch=4, precision=precision, attention=attention, checkpointing=each),
        )
        for each in ("none", "block")
    )
    highest = [max(COUNTED["elsewhere"](s.peaks["elsewhere"]) for s in made.segments) for made in (plain, again)]
    assert highest[1] < highest[0]
    assert again.step_flops > plain.step_flops
    assert not torch.cuda.is_initialized()


def test_autocast_keeps_what_it_keeps_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass, also on fake tensors on CUDA, where PyTorch's own autocast runs."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    config = make_config("swinv2_nano", window_size=8, image_size=64)
    settings = Settings(image_size=(64, 64), batch=2, attention="sequential")
    stood_in = [s.peaks["elsewhere"] for s in trace(Work(config), settings).segments if s.group and not s.backward]
    with torch.device("meta"):
        model = SwinTransformer(config)
    configure(model, settings)
    with FakeTensorMode():
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, torch.nn.Parameter(torch.empty(parameter.shape, device="cuda")))
        recorder = Recorder("cuda", model.parameters())
        for block in (each for each in model.modules() if isinstance(each, SwinBlock)):
            block.register_forward_pre_hook(lambda *_: recorder.enter(1, False))
            block.register_forward_hook(lambda *_: recorder.enter(0, False))
        with recorder:
            images = torch.empty(2, 3, 64, 64, device="cuda")
            labels = torch.zeros(2, dtype=torch.long, device="cuda")
            with torch.autocast("cuda", torch.bfloat16):
                F.cross_entropy(model(images).float(), labels)
    real = [segment.peaks["elsewhere"] for segment in recorder.segments if segment.group]
    assert len(real) == sum(config.depths)
    assert stood_in == real


def test_what_cannot_run_is_refused() -> None:
    config = make_config("swinv2_nano", image_size=64)
    size: Any = {"image_size": (64, 64), "device": "cpu", "precision": "fp32"}
    with pytest.raises(ValueError, match="Attention backend 'triton' cannot run here: it needs an NVIDIA GPU"):
        trace(Work(config), Settings(**size, attention="triton"))
    with pytest.raises(ValueError, match="There is no attention backend 'sequentil'"):
        trace(Work(config), Settings(**size, attention="sequentil"))
    with pytest.raises(ValueError, match="There is no stage 7: this model has stages 0 to 3"):
        trace(Work(config), Settings(**size, attention="sequential", attention_stages=(7,)))
