"""Video Swin-T, V1 and V2, beside torchvision's swin3d_t: clips a second and peak memory, inference and training.

    python benchmarks/video.py [--device cuda] [--rows 'inference.*fp32'] [--rounds 11] [--seconds 120] [--no-compile]

V1 and torchvision have the same weights; see contest.py. The ratio is that of V1 to torchvision, which are the same
model; V2 stands beside them at the same window, and at one of 8 x 16 x 16.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from common import Store
from contest import Contest, Row
from torch import nn

from swinv2.checkpoint.writing import state_dict
from swinv2.config import Axes
from swinv2.model import SwinTransformer, create_model
from swinv2.storage import Stored

CLASSES = 400
OURS, PEER = "V1 8x7x7", "torchvision swin3d_t"


@dataclass(frozen=True)
class Case:
    """Clips of so many frames of square images, in batches."""

    frames: int
    image_size: int
    batch: int

    @property
    def size(self) -> Axes:
        """Of a clip."""
        return (self.frames, self.image_size, self.image_size)

    def build(self, name: str, window: Axes, drop_path_rate: float) -> SwinTransformer:
        """A model with fresh weights, the same each time."""
        torch.manual_seed(0)
        return create_model(
            name, window_size=window, image_size=self.size, num_classes=CLASSES, drop_path_rate=drop_path_rate
        )

    def __str__(self) -> str:
        return f"{self.frames}x{self.image_size}x{self.image_size} b{self.batch}"


def torchvision_of(model: SwinTransformer) -> nn.Module:
    """swin3d_t as torchvision has it, with our weights and drop path."""
    config = model.config
    module = importlib.import_module("torchvision.models.video.swin_transformer")
    peer: nn.Module = module.SwinTransformer3d(
        patch_size=list(config.patch_size),
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=list(config.window_size[0]),
        stochastic_depth_prob=config.drop_path_rate,
        num_classes=config.num_classes,
    )
    peer.load_state_dict(state_dict(Stored(config, dict(model.state_dict()), model.info), "torchvision"))
    return peer


MODELS: dict[str, Callable[[Case, float], nn.Module]] = {
    "V2 8x7x7": lambda case, drop: case.build("swinv2_video_tiny", (8, 7, 7), drop),
    "V2 8x16x16": lambda case, drop: case.build("swinv2_video_tiny", (8, 16, 16), drop),
    OURS: lambda case, drop: case.build("swin_video_tiny", (8, 7, 7), drop),
    PEER: lambda case, drop: torchvision_of(case.build("swin_video_tiny", (8, 7, 7), drop)),
}


ROWS = [
    Row(work, case, dtype, compiled)
    for work, cases in (("inference", (Case(16, 224, 1), Case(32, 224, 1))), ("training", (Case(16, 224, 2),)))
    for case in cases
    for dtype in ("fp32", "bf16")
    for compiled in (False, True)
]


CONTEST = Contest(
    script=__file__,
    title="Video Swin-T beside torchvision",
    unit="clips",
    rows=ROWS,
    builders=MODELS,
    ours=OURS,
    peers=(PEER,),
    ratio="the ratio is that of V1 to torchvision, the same model",
    share="V1 of torchvision",
)


def main() -> None:
    options = CONTEST.parse(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    if options.memory_of:
        return CONTEST.print_memory(options.memory_of, options.contender, options.device)
    store = Store("video", options)
    CONTEST.run(store, options)
    store.write(CONTEST.report(store))
    return None


if __name__ == "__main__":
    main()
