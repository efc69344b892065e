"""The same model in other libraries, with the same weights where their classes can hold them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from swinv2.checkpoint.writing import state_dict
from swinv2.config import Axes, SwinConfig, did_you_mean
from swinv2.model import SwinTransformer
from swinv2.storage import Stored


class Logits(nn.Module):
    """A classifier of transformers that returns its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of images ``[B, C, H, W]``."""
        logits: Tensor = self.model(pixel_values=x).logits
        return logits


def build_peer(library: str, model: SwinTransformer, image_size: Axes) -> nn.Module:
    """Another library's model of the same architecture and weights, in evaluation mode.

    Args:
        library: timm, transformers or torchvision, which must be installed.
        model: a V2 model of images.
        image_size: what is going to be fed.

    Raises:
        ValueError: the library has no such model.
        ModuleNotFoundError: the library is not installed.
    """
    if library not in PEERS:
        raise ValueError(
            f"{library!r} is no library to compare with{did_you_mean(library, PEERS)}: {', '.join(PEERS)}."
        )
    config = model.config
    windows = {window for stage in config.window_size for window in stage}
    if config.ndim != 2 or config.attention_score != "cosine" or len(windows) > 1:
        raise ValueError("only V2 models of images with one square window for all stages are compared with a library.")
    # Written first: a model that the format cannot hold is refused before the library is imported.
    weights = state_dict(Stored(config, dict(model.state_dict()), model.info), library)
    peer = PEERS[library](config, image_size, windows.pop())
    getattr(peer, "model", peer).load_state_dict(weights)
    return peer.eval()


def _trained(config: SwinConfig, image_size: Axes) -> list[int]:
    """Trained windows by stage as the libraries want them: 0 for the window that runs."""
    running = [min(window + grid) for window, grid in zip(config.window_size, config.grids(image_size), strict=True)]
    trained = [window[0] for window in config.trained_window_size]
    return [0 if p == w else p for p, w in zip(trained, running, strict=True)]


def _timm(config: SwinConfig, image_size: Axes, window: int) -> nn.Module:
    module = importlib.import_module("timm.models.swin_transformer_v2")
    return module.SwinTransformerV2(
        img_size=image_size,
        patch_size=config.patch_size,
        in_chans=config.in_channels,
        num_classes=config.num_classes,
        embed_dim=config.embed_dim,
        depths=config.depths,
        num_heads=config.num_heads,
        window_size=window,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path_rate,
        pretrained_window_sizes=tuple(_trained(config, image_size)),
    )


def _transformers(config: SwinConfig, image_size: Axes, window: int) -> nn.Module:
    library = importlib.import_module("transformers")
    settings = library.Swinv2Config(
        image_size=list(image_size),
        patch_size=config.patch_size[0],
        num_channels=config.in_channels,
        num_labels=config.num_classes,
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=window,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path_rate,
        pretrained_window_sizes=_trained(config, image_size),
    )
    return Logits(library.Swinv2ForImageClassification(settings))


def _torchvision(config: SwinConfig, image_size: Axes, window: int) -> nn.Module:
    if any(_trained(config, image_size)) or any(window > min(grid) for grid in config.grids(image_size)):
        raise ValueError(
            f"torchvision pads maps that are smaller than the window, and has no trained window: it has no model of "
            f"window {window} for images of {'x'.join(map(str, image_size))}."
        )
    module = importlib.import_module("torchvision.models.swin_transformer")
    return module.SwinTransformer(
        patch_size=list(config.patch_size),
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=[window, window],
        mlp_ratio=config.mlp_ratio,
        stochastic_depth_prob=config.drop_path_rate,
        num_classes=config.num_classes,
        block=module.SwinTransformerBlockV2,
        downsample_layer=module.PatchMergingV2,
    )


PEERS: dict[str, Callable[[SwinConfig, Axes, int], Any]] = {
    "timm": _timm,
    "transformers": _transformers,
    "torchvision": _torchvision,
}
