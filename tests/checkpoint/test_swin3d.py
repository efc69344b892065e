"""Video models equal torchvision's: swin3d_t, swin3d_s and swin3d_b themselves, their random weights read from a state
dict. At sizes where no height or width is below the window, and nothing is padded: elsewhere torchvision differs (see
docs/parity.md).
"""

import importlib
import sys
from pathlib import Path

import pytest
import torch

import swinv2

pytest.importorskip("torchvision")
pytest.importorskip("timm")
pytest.importorskip("transformers")
video = importlib.import_module("torchvision.models.video.swin_transformer")
sys.path.insert(0, str(Path(__file__).parent))
peers = importlib.import_module("peers")

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}


def relative_error(reference: torch.nn.Module, shape: tuple[int, ...]) -> float:
    """Of the logits of clips of random pixels, with every parameter random."""
    peers.randomise(reference)
    ours = swinv2.load(reference.state_dict())
    clips = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        want, got = reference(clips), ours(clips)
    assert want.std() > 0.1, "a degenerate model would agree with anything"
    return ((got - want).abs().max() / want.abs().max()).item()


@pytest.mark.parametrize("shape", [(4, 64, 64), (8, 64, 128), (2, 128, 64)], ids=str)
def test_the_depths_of_swin3d_t_at_a_small_window(shape):
    """Shifts along all axes; in the second case two windows in time, in the third less than one."""
    reference = video.SwinTransformer3d(patch_size=[2, 4, 4], window_size=[2, 2, 2], num_classes=7, **TINY)
    assert relative_error(reference, shape) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames"), [("swin3d_t", 8), ("swin3d_t", 32), ("swin3d_s", 8), ("swin3d_b", 8), ("swin3d_b", 16)]
)
def test_the_models_of_torchvision(name, frames):
    """Window 8x7x7 at 224: in 32 frames two windows in time, shifted."""
    reference = getattr(video, name)()
    variant = swinv2.VARIANTS[f"swin_video_{ {'t': 'tiny', 's': 'small', 'b': 'base'}[name[-1]] }"]
    state = reference.state_dict()
    ours = swinv2.load(state).config
    assert (ours.window_size, ours.embed_dim, ours.depths) == (variant.window_size, variant.embed_dim, variant.depths)
    assert relative_error(reference, (frames, 224, 224)) < 1e-5
