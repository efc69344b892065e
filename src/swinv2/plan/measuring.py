"""The same step on this machine's own device, to hold beside a plan."""

from __future__ import annotations

import torch

from swinv2.benchmark.contenders import memory, optimising
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.memory import Usage
from swinv2.plan.planning import Plan
from swinv2.plan.settings import Settings
from swinv2.plan.trace import configure
from swinv2.plan.work import Work


def measured(work: Work, settings: Settings) -> Usage:
    """Memory of the second step of a fresh model with random inputs, above its weights and the inputs.

    Raises:
        ValueError: the device is not here, or several are meant.
    """
    if settings.devices > 1:
        raise ValueError(f"{settings.devices} devices cannot be measured by one process: plan for one to compare.")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("this machine has no CUDA device to measure on: use --device cpu, or plan only.")
    device = torch.device(settings.device)
    torch.manual_seed(0)
    model = work.build().to(device).train()
    configure(model.body, settings)
    images, targets = work.inputs(settings, device)
    step = optimising(model, lambda: work.loss(model, images, targets), device, DTYPES[settings.precision])
    return memory("training", step, device)


def comparable(plan: Plan) -> int:
    """Bytes of a plan's peak above weights and inputs."""
    return plan.peak.total - plan.peak.weights - plan.input_bytes
