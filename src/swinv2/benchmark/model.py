"""A model on this machine: speed and memory, where the time goes, and how far it is from what the machine can do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from swinv2.benchmark import roofline
from swinv2.benchmark.contenders import WORK, Call, images, inference, memory
from swinv2.benchmark.machine import DTYPES, Ceilings, describe, measure_ceilings
from swinv2.benchmark.parts import linear_floor, time_by_part
from swinv2.benchmark.peers import build_peer
from swinv2.benchmark.timing import interleave, one_line
from swinv2.config import Axes
from swinv2.model import SwinTransformer
from swinv2.ops import explain

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Args:
        image_size: input, one number per axis.
        batch: images in a call.
        dtypes: fp32, bf16, fp16. In inference the model is cast; in training half precision is autocast.
        backends: of the attention, each a contender of its own; "auto" is the library's choice.
        compiled: time every contender under torch.compile too.
        training: time a training step instead of a forward pass.
        against: libraries to compare with: timm, transformers, torchvision.
        rounds: at most so many.
        seconds: budget of the rounds of one dtype.
    """

    image_size: Axes
    batch: int = 8
    dtypes: tuple[str, ...] = ("fp32", "bf16")
    backends: tuple[str, ...] = ("auto",)
    compiled: bool = False
    training: bool = False
    against: tuple[str, ...] = ()
    rounds: int = 11
    seconds: float = 60.0

    @property
    def work(self) -> str:
        """What a call does: inference or training."""
        return "training" if self.training else "inference"


def benchmark_model(
    model: SwinTransformer,
    plan: Plan,
    device: torch.device,
    progress: Callable[[str], None] = lambda text: None,
    ceilings: Ceilings | None = None,
) -> dict[str, Any]:
    """Measure a model; the result is plain data for JSON.

    Args:
        model: is copied, and left as it is.
        plan: what to measure.
        device: where.
        progress: called with what begins.
        ceilings: of the machine, for the dtypes; None: measured first.
    """
    if ceilings is None:
        progress("measuring what the machine can do")
        ceilings = measure_ceilings(device, plan.dtypes)
    rows: list[Row] = []
    parts: dict[str, Any] = {}
    for dtype in plan.dtypes:
        rows += _speed(model, plan, dtype, device, progress)
        progress(f"{dtype}: where the time of a forward pass goes")
        parts[dtype] = _inside(model, plan, dtype, device, ceilings)
    return {
        "machine": describe(device),
        "ceilings": ceilings.to_dict(),
        "plan": {**asdict(plan), "work": plan.work},
        "config": model.config.to_dict(),
        "rows": rows,
        "parts": parts,
        "backends": _backends(model, plan, device),
    }


def _speed(
    model: SwinTransformer, plan: Plan, dtype: str, device: torch.device, progress: Callable[[str], None]
) -> list[Row]:
    x = images(plan.batch, model.config.in_channels, plan.image_size, device)
    calls: dict[str, Call] = {}
    errors: dict[str, str] = {}
    used: dict[str, int] = {}
    for name, build in _builders(model, plan).items():
        try:
            for compiled in (False, True) if plan.compiled else (False,):
                label = f"{name}, compiled" if compiled else name
                calls[label] = WORK[plan.work](build(), x, DTYPES[dtype], compiled)
            progress(f"{dtype}: memory of {name}")
            used[name] = memory(plan.work, calls[name], device).peak
        except Exception as error:  # a library that has no such model, a backend that cannot run it, no memory
            calls.pop(name, None)
            errors[name] = one_line(error)
    progress(f"{dtype}: timing {', '.join(calls)}")
    timing = interleave(calls, device, rounds=plan.rounds, seconds=plan.seconds)
    if plan.compiled:
        torch._dynamo.reset()
    failed = {**errors, **timing.errors}
    return [
        {
            "name": name,
            "dtype": dtype,
            "seconds": timing.seconds.get(name),
            "images_per_second": plan.batch / timing.seconds[name] if name in timing.seconds else None,
            "spread": timing.spread.get(name),
            "peak_bytes": used.get(name),
            "rounds": timing.rounds,
            "disturbed": timing.disturbed,
            "error": failed.get(name, ""),
        }
        for name in dict.fromkeys((*calls, *errors))
    ]


def _builders(model: SwinTransformer, plan: Plan) -> dict[str, Callable[[], torch.nn.Module]]:
    def own(backend: str) -> SwinTransformer:
        copied = copy.deepcopy(model)
        copied.set_attention_backend(backend)
        return copied

    found: dict[str, Callable[[], torch.nn.Module]] = {}
    for backend in plan.backends:
        found["swinv2" if backend == "auto" else f"swinv2 {backend}"] = partial(own, backend)
    for library in plan.against:
        found[library] = partial(build_peer, library, model, plan.image_size)
    return found


def _inside(model: SwinTransformer, plan: Plan, dtype: str, device: torch.device, ceilings: Ceilings) -> Row:
    """Time by part of a forward pass on the first backend, its matrix products alone, and the floor on paper."""
    copied = copy.deepcopy(model)
    copied.set_attention_backend(plan.backends[0])
    x = images(plan.batch, model.config.in_channels, plan.image_size, device)
    real, shape = DTYPES[dtype], (model.config, plan.image_size, plan.batch)
    by_part = time_by_part(inference(copied, x, real), device)
    work = roofline.work(*shape)
    return {
        "parts": [asdict(part) for part in by_part],
        "linear_alone": linear_floor(*shape, device, real),
        "floor": roofline.floor(*shape, ceilings, dtype, real.itemsize),
        "work": [
            {
                "stage": stage,
                "part": part,
                "flops": each.flops,
                "bytes": each.elements * real.itemsize,
                "exponentials": each.exponentials,
                **dict(zip(("floor", "bound"), each.floor(ceilings, dtype, real.itemsize), strict=True)),
            }
            for (stage, part), each in work.items()
        ],
    }


def _backends(model: SwinTransformer, plan: Plan, device: torch.device) -> dict[str, str]:
    """What "auto" picks for each dtype, and why, at the first stage in evaluation."""
    config, found = model.config, {}
    heads, window = config.num_heads[0], config.window_size[0]
    grid = config.grids(plan.image_size)[0]
    for dtype in plan.dtypes:
        qkv = torch.empty(1, *grid, 3, heads, config.dims[0] // heads, device=device, dtype=DTYPES[dtype])
        bias = torch.empty(heads, *(2 * w - 1 for w in window), device=device)
        found[dtype] = explain(qkv, bias, window)
    return found
