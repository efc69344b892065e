"""One training step of a model on tensors without numbers: nothing is computed, and no such device needs to be here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_leaves

from swinv2.benchmark.machine import DTYPES
from swinv2.config import Axes
from swinv2.model import Native
from swinv2.model.block import SwinBlock
from swinv2.model.stages import SwinStages
from swinv2.plan.cuda import as_on_cuda
from swinv2.plan.recorder import ROOT, Recorder, Segment
from swinv2.plan.settings import Settings
from swinv2.plan.work import Work


@dataclass(frozen=True)
class Trace:
    """What a step does on one device, whatever the strategy.

    Args:
        shapes: of the parameters, by group: those outside blocks, then those of each block.
        groups: their names.
        segments: in the order of time.
        forward_flops: of the forward pass.
        step_flops: of the whole step, with what checkpointing computes again.
        seconds: that tracing took.
        inputs: bytes of the images and their targets, which live as long as the step.
    """

    shapes: tuple[tuple[Axes, ...], ...]
    groups: tuple[str, ...]
    segments: tuple[Segment, ...]
    forward_flops: int
    step_flops: int
    seconds: float
    inputs: int


def trace(work: Work, settings: Settings) -> Trace:
    """Run the step of `settings` on fake tensors.

    Raises:
        ValueError: an attention backend that cannot run so, or a stage that does not exist.
    """
    began = time.perf_counter()
    with torch.device("meta"):
        model = work.build().train()
    configure(model.body, settings)
    half = None if settings.precision == "fp32" else DTYPES[settings.precision]
    place = _on_cpu if settings.device == "cpu" else as_on_cuda
    with place(model, half) as forward_pass:
        groups = _groups(model)
        recorder = Recorder(settings.device, [*model.parameters(), *model.buffers()])
        _follow(model.body, groups, recorder)
        images, targets = work.inputs(settings, next(model.parameters()).device)
        inputs = recorder.hold(tree_leaves((images, targets)))
        with recorder:
            with forward_pass, work.bounds():
                loss = work.loss(model, images, targets)
            recorder.enter(ROOT, backward=True)
            loss.backward()
    forward, backward = recorder.flops[False], recorder.flops[True]
    return Trace(
        shapes=tuple(tuple(tuple(p.shape) for p in parameters) for parameters in groups.values()),
        groups=tuple(groups),
        segments=tuple(recorder.segments),
        forward_flops=forward,
        step_flops=forward + backward,
        seconds=time.perf_counter() - began,
        inputs=inputs,
    )


def configure(body: SwinStages, settings: Settings) -> None:
    """Give patch embedding and stages the attention and the checkpointing of the settings."""
    if settings.attention != "auto" or settings.budget_mb is not None:
        body.set_attention_backend(settings.attention, stages=settings.attention_stages, budget_mb=settings.budget_mb)
    body.set_checkpointing(settings.checkpointing == "block")


@contextmanager
def _on_cpu(model: nn.Module, half: torch.dtype | None) -> Iterator[AbstractContextManager[object]]:
    """Put fake tensors in the place of all; yields the context of the forward pass."""
    with FakeTensorMode():
        for module in model.modules():
            for held in (module._parameters, module._buffers, module.__dict__):
                held.update({name: _faked(value) for name, value in held.items()})
        yield torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None)


def _faked(value: Any) -> Any:
    """A tensor, or a list of them such as anchors, as a fake one on the CPU; anything else as it is."""
    if isinstance(value, list):
        return [_faked(each) for each in value]
    if not isinstance(value, Tensor):
        return value
    fake = torch.empty(value.shape, dtype=value.dtype, device="cpu")
    return nn.Parameter(fake) if isinstance(value, nn.Parameter) else fake


def _groups(model: Native) -> dict[str, list[nn.Parameter]]:
    """Parameters outside blocks, then of each block: what FSDP gathers at once, wrapped by block."""
    blocks = {
        f"block {number} of stage {stage}": list(block.parameters())
        for stage, part in enumerate(model.body.stages, start=1)
        for number, block in enumerate(_blocks(part), start=1)
    }
    inside = {parameter for parameters in blocks.values() for parameter in parameters}
    return {"outside blocks": [each for each in model.parameters() if each not in inside], **blocks}


def _blocks(part: nn.Module) -> Iterator[SwinBlock]:
    return (module for module in part.modules() if isinstance(module, SwinBlock))


def _follow(body: SwinStages, groups: dict[str, list[nn.Parameter]], recorder: Recorder) -> None:
    """Tell the recorder what is at work, and when gradients are accumulated."""
    for group, parameters in enumerate(groups.values()):
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(partial(recorder.accumulated, group=group))
    for group, block in enumerate(_blocks(body), start=1):
        block.register_forward_pre_hook(partial(_enter, recorder, group))
        block.register_forward_hook(partial(_leave, recorder, group))
    merges: list[Any] = [stage.merge for stage in body.stages]
    for module in (body.patch_embed, *merges):
        if not isinstance(module, nn.Identity):  # whose output is a block's too
            module.register_forward_hook(partial(_leave, recorder, ROOT))


def _enter(recorder: Recorder, group: int, *_: object) -> None:
    recorder.enter(group, backward=False)


def _leave(recorder: Recorder, group: int, module: nn.Module, args: object, out: Tensor) -> None:
    """The forward pass goes on outside; when the output's gradient is there, the backward pass comes in."""
    recorder.enter(ROOT, backward=False)
    out.register_hook(lambda grad: recorder.enter(group, backward=True))
