"""A small backbone that is no Swin, weights that keep the size of signals, and pictures with objects."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn


class Convolutions(nn.Module):
    """The feature contract and no more: channels, strides, and a list of maps."""

    channels = (8, 12, 16, 24)
    strides = (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        inputs, steps = (3, *self.channels[:-1]), (4, 2, 2, 2)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, step, step) for a, b, step in zip(inputs, self.channels, steps, strict=True)
        )

    def forward(self, x):
        maps = []
        for layer in self.layers:
            x = layer(x).relu()
            maps.append(x)
        return maps


@pytest.fixture(scope="session")
def convolutions():
    return Convolutions


@pytest.fixture(scope="session")
def spread():
    """Random weights of a deviation that neither lets signals explode nor vanish, and biases that are not 0."""

    def fill(module, seed=0, gain=1.0):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                fan_in = math.prod(parameter.shape[1:])
                deviation = gain * fan_in**-0.5 if parameter.ndim > 1 else 0.1
                parameter.normal_(0.0, deviation, generator=generator)
        return module

    return fill


@pytest.fixture(scope="session")
def pictures():
    """Images of noise and targets of random boxes with an ellipse in each."""

    def make(sizes, counts, classes=3, semantic=5, seed=0):
        generator = torch.Generator().manual_seed(seed)
        images, targets = [], []
        for (height, width), count in zip(sizes, counts, strict=True):
            images.append(torch.randn(3, height, width, generator=generator))
            extent = torch.tensor([width, height])
            start = torch.rand(count, 2, generator=generator) * extent * 0.6
            side = (0.15 + 0.25 * torch.rand(count, 2, generator=generator)) * extent
            y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
            centre, half = (start + side / 2)[..., None, None], (side / 2)[..., None, None]
            inside = ((x - centre[:, 0]) / half[:, 0]) ** 2 + ((y - centre[:, 1]) / half[:, 1]) ** 2 <= 1
            stuff = torch.randint(0, semantic, (height, width), generator=generator)
            stuff[torch.rand(height, width, generator=generator) < 0.2] = 255
            targets.append(
                {
                    "boxes": torch.cat([start, start + side], 1),
                    "labels": torch.randint(1, classes + 1, (count,), generator=generator),
                    "masks": inside.to(torch.uint8),
                    "semantic": stuff,
                }
            )
        return images, targets

    return make
