"""Small models of every kind, with random weights."""

import pytest
import torch

from swinv2.config import SwinConfig, make_config
from swinv2.model import SwinTransformer
from swinv2.model.features import SwinBackbone

SMALL = {"embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2), "num_classes": 5}
CONFIGS = {
    "v2": make_config("swinv2_nano", window_size=8, image_size=64, **SMALL),
    "v2_window4": make_config("swinv2_nano", window_size=4, **{**SMALL, "depths": (2, 2)}),
    "v1_headless": make_config("swin_tiny", window_size=4, **{**SMALL, "num_classes": 0}),
    "v2_video": make_config("swinv2_video_tiny", window_size=((2, 4, 4),) * 2, **SMALL),
    "v1_video_headless": make_config("swin_video_tiny", window_size=((4, 3, 3),) * 2, **{**SMALL, "num_classes": 0}),
    "signal": SwinConfig(patch_size=(2,), window_size=5, in_channels=1, **SMALL),
}
SIZES = [(64, 64), (70, 90), (97, 133), (33, 200), (32, 32), (224, 640), (1, 1), (3, 50)]


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Everywhere below this folder."""


@pytest.fixture(scope="session")
def small(randomise):
    """A model of `CONFIGS`; "backbone" returns maps, and two of its stages are frozen."""

    def make(name):
        if name == "backbone":
            return randomise(SwinBackbone(CONFIGS["v2"], frozen_stages=2)).eval()
        return randomise(SwinTransformer(CONFIGS[name])).eval()

    return make


def sized(model, size, batch):
    """Random input of a size: a signal's is the height, and a clip has some frames."""
    frames = 2 + size[0] % 5
    sizes = {1: size[:1], 2: size, 3: (frames, *(min(n, 97) for n in size))}[model.config.ndim]
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, model.config.in_channels, *sizes, generator=generator)


@pytest.fixture(scope="session")
def check():
    """Whether ``run`` gives what ``model`` gives at every size and batch, to ``tolerance`` of the largest output."""

    def compare(run, model, tolerance):
        for size in SIZES:
            for batch in (1, 3):
                x = sized(model, size, batch)
                with torch.no_grad():
                    wanted = model(x)
                for got, want in zip(run(x), [wanted] if isinstance(wanted, torch.Tensor) else wanted, strict=True):
                    assert got.shape == want.shape
                    difference = ((got - want).abs().max() / want.abs().max()).item()
                    assert difference <= tolerance, f"{tuple(x.shape)}: {difference:.1e}"

    return compare
