"""The same step on this machine's own device, to hold beside a plan."""

from __future__ import annotations

from math import prod

import torch

from swinv2.benchmark.contenders import images, memory, training
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.memory import Usage
from swinv2.config import SwinConfig
from swinv2.model import SwinTransformer
from swinv2.plan.planning import Plan
from swinv2.plan.settings import Settings
from swinv2.plan.strategy import BYTES
from swinv2.plan.trace import configure


def measured(config: SwinConfig, settings: Settings) -> Usage:
    """Memory of the second step of a fresh model with random images, above its weights and the images.

    Raises:
        ValueError: the device is not here, or several are meant.
    """
    if settings.devices > 1:
        raise ValueError(f"{settings.devices} devices cannot be measured by one process: plan for one to compare.")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("this machine has no CUDA device to measure on: use --device cpu, or plan only.")
    device = torch.device(settings.device)
    model = SwinTransformer(config)
    configure(model, settings)
    x = images(settings.batch, config.in_channels, settings.image_size, device)
    return memory("training", training(model, x, DTYPES[settings.precision]), device)


def comparable(config: SwinConfig, plan: Plan) -> int:
    """Bytes of a plan's peak above weights and images."""
    pixels = plan.settings.batch * config.in_channels * prod(plan.settings.image_size)
    return plan.peak.total - plan.peak.weights - BYTES * pixels
