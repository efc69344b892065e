"""From a model to a file that was seen to give what the model gives."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from swinv2.config import Axes, SwinConfig, did_you_mean
from swinv2.export.formats import FORMATS, Format, Run
from swinv2.export.program import trace, twin
from swinv2.files import written_aside
from swinv2.model.stages import SwinStages
from swinv2.storage import metadata

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of an output over the largest output, by the weights' dtype."""


GRAPH_BYTES = 2**26
"""Room for what a file holds beside its weights; the graph of swinv2_tiny takes 4 MB."""


@dataclass(frozen=True)
class Exported:
    """A file, and the input shapes ``[B, C_in, *size]`` at which it was compared with its model.

    ``difference`` is the largest one of an output over the largest output.
    """

    path: Path
    shapes: tuple[Axes, ...]
    difference: float


def export(model: SwinStages, path: str | os.PathLike[str], format: str) -> Exported:
    """Write ``model``'s forward pass in evaluation, for any batch and size of input.

    The file carries the metadata of our weights files (`swinv2.storage.metadata`): class names, preprocessing and
    configuration. It is written aside, run at some sizes and compared with the model, and renamed only if it agrees;
    an existing file is replaced.

    Args:
        model: a `SwinTransformer` or `SwinBackbone`; it is not changed. ONNX takes fp32 weights below 2 GB.
        path: the file; its suffix must be the format's.
        format: "pt2" or "onnx".

    Raises:
        ValueError: the format, the suffix, a dtype or a size that cannot be, a missing package, or a file that does
            not give what the model gives.
        OSError: the file cannot be written.
    """
    path = Path(path)
    kind = prepare(path, format)
    dtype = next(model.parameters()).dtype
    kind.check_weights(format, dtype, sum(p.nbytes for p in model.parameters()))
    said = metadata(model.config, model.info)
    traced = trace(model)
    with written_aside(path) as aside:
        check_room(aside, sum(tensor.nbytes for tensor in traced.program.state_dict.values()) + GRAPH_BYTES)
        kind.write(traced, aside, said)
        shapes = check_shapes(model.config)
        difference = largest_difference(kind.open(aside), twin(model), shapes)
        if not difference <= TOLERANCE[dtype]:
            raise ValueError(
                f"the {format} file differs from the model by {difference:.1e} of its largest output, more than "
                f"{TOLERANCE[dtype]:.0e}, and was not kept: export another format, or report it."
            )
    return Exported(path, shapes, difference)


def prepare(path: Path, format: str) -> Format:
    """The format, if it exists, fits the file's name, and has the packages it needs; else ValueError."""
    kind = FORMATS.get(format)
    if kind is None:
        raise ValueError(f"There is no export format {format!r}{did_you_mean(format, FORMATS)}: use pt2 or onnx.")
    if path.suffix != f".{format}":
        raise ValueError(f"{str(path)!r} does not end in .{format}, by which others know the format: rename it.")
    for package in kind.packages:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{package} is missing: install it with pip install 'swinv2[export]'.")
    return kind


def check_room(path: Path, size: int) -> None:
    """OSError if the disk of ``path`` has no ``size`` bytes left: on a full one, torch's writer ends the process."""
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise OSError(f"{path.parent} has {free / 1e9:.2f} GB left, but the file takes about {size / 1e9:.2f} GB.")


def check_shapes(config: SwinConfig) -> tuple[Axes, ...]:
    """Odd inputs that are below the first stage's window on all axes, on the first axis, and on none."""
    pixels = [p * w for p, w in zip(config.patch_size, config.window_size[0], strict=True)]
    below = [max(1, 3 * n // 4 - 1) for n in pixels]
    above = [2 * n + 1 + 2 * i for i, n in enumerate(pixels)]
    sizes = (below, [*below[:1], *above[1:]], above)
    return tuple((1 + i % 2, config.in_channels, *size) for i, size in enumerate(sizes))


def largest_difference(run: Run, model: SwinStages, shapes: Sequence[Axes]) -> float:
    """Largest difference between ``run`` and ``model`` over the largest output, on random inputs; inf if not finite."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for shape in shapes:
        x = torch.randn(shape, generator=generator).to(next(model.parameters()).dtype)
        with torch.no_grad():
            wanted = model(x)
        for got, want in zip(run(x), [wanted] if isinstance(wanted, Tensor) else wanted, strict=True):
            difference = (got.double() - want.double()).abs().max() / want.double().abs().max().clamp_min(1e-30)
            worst = max(worst, difference.nan_to_num(torch.inf, torch.inf).item())
    return worst
