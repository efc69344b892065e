"""A trained classifier over a loader of images: logits, and what to call them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from swinv2.data.labelled import Batch

Ranking = list[tuple[str, float]]
"""Classes and their probabilities, the likeliest first."""


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


@torch.inference_mode()
def infer(model: nn.Module, loader: Iterable[Batch], device: torch.device) -> Iterator[tuple[Batch, Tensor]]:
    """Each batch with its fp32 logits `[B, classes]` on the CPU; a batch without readable images has none."""
    model = model.to(device).eval()
    dtype = next(model.parameters()).dtype
    for batch in loader:
        images = batch.images.to(device, dtype, non_blocking=True)
        yield batch, model(images).float().cpu() if len(images) else torch.empty(0)


def rank(logits: Tensor, classes: Sequence[str], top: int) -> list[Ranking]:
    """The `top` likeliest classes of each row of `[B, classes]` logits."""
    probabilities, indices = logits.softmax(-1).topk(min(top, len(classes)))
    names = [[classes[index] for index in row] for row in indices.tolist()]
    return [list(zip(row, p, strict=True)) for row, p in zip(names, probabilities.tolist(), strict=True)]
