"""Every format's reference, built with random weights from one description of an architecture.

A reference is the format's own class where it can be installed (timm, transformers, torchvision). Microsoft's layout
has no such class: its references are the plain definition of `plain.py`, and timm's class filled by timm's own reader
of that layout. mmpretrain's is the plain definition with its merging by nn.Unfold.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import plain
import timm.models.swin_transformer as timm_v1
import timm.models.swin_transformer_v2 as timm_v2
import torch
import torchvision.models.swin_transformer as torchvision_image
import torchvision.models.video.swin_transformer as torchvision_video
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Spec:
    """An architecture: small unless told otherwise. More numbers in ``window`` and ``image_size`` than two make video.

    Args:
        version: 1 or 2.
        trained: window of each stage at which V2's bias network was first trained; None: the window that it runs.
    """

    version: int = 2
    embed_dim: int = 32
    depths: tuple[int, ...] = (2, 2)
    num_heads: tuple[int, ...] = (1, 2)
    window: tuple[int, ...] = (4, 4)
    image_size: tuple[int, ...] = (32, 32)
    trained: tuple[int, ...] | None = None
    num_classes: int = 5
    extra_norm_interval: int = 0

    @property
    def untold(self) -> dict[str, Any]:
        """What `swinv2.load` has to be told where no buffer shows the windows of a V2 model."""
        if self.version == 1:
            return {}
        window = (self.window,) * len(self.depths)
        if self.trained is None:
            return {"window_size": window, "image_size": self.image_size}
        return {"window_size": window, "trained_window_size": tuple((p, p) for p in self.trained)}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A reference model in evaluation mode.

    Args:
        format: what this library calls its format.
        state: its weights as its files spell them.
        run: logits of images; features, averaged, where it has no head.
        untold: overrides for `swinv2.load`.
    """

    format: str
    model: nn.Module
    state: Mapping[str, Tensor]
    run: Callable[[Tensor], Tensor]
    untold: Mapping[str, Any] = field(default_factory=dict)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random values for every parameter: at their initial zeros norms and biases would hide what is wrong. The key
    third of torchvision's V2 bias is 0, as its forward pass makes it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit_scale" in name:
                parameter.uniform_(1.0, 3.0, generator=generator)
            elif parameter.ndim == 1 and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("bias_table"):
                parameter.normal_(generator=generator)
            else:
                parameter.normal_(0.0, 0.05 if parameter.ndim > 1 else 0.2, generator=generator)
        for part in model.modules():
            if isinstance(part, torchvision_image.ShiftedWindowAttentionV2):
                part.qkv.bias.chunk(3)[1].zero_()
    return model.eval()


def timm(spec: Spec) -> Peer:
    model = randomise(_timm(spec))
    return Peer(format="timm", model=model, state=model.state_dict(), run=model, untold=spec.untold)


def _timm(spec: Spec) -> nn.Module:
    build = timm_v1.SwinTransformer if spec.version == 1 else timm_v2.SwinTransformerV2
    trained = {} if spec.trained is None else {"pretrained_window_sizes": spec.trained}
    return build(
        img_size=spec.image_size,
        window_size=spec.window[0],
        embed_dim=spec.embed_dim,
        depths=spec.depths,
        num_heads=spec.num_heads,
        num_classes=spec.num_classes,
        **trained,
    )


def transformers_config(spec: Spec) -> transformers.PreTrainedConfig:
    build = transformers.SwinConfig if spec.version == 1 else transformers.Swinv2Config
    trained = {} if spec.trained is None else {"pretrained_window_sizes": list(spec.trained)}
    return build(
        image_size=spec.image_size[0],
        window_size=spec.window[0],
        embed_dim=spec.embed_dim,
        depths=list(spec.depths),
        num_heads=list(spec.num_heads),
        num_labels=spec.num_classes,
        encoder_stride=4 * 2 ** (len(spec.depths) - 1),
        **trained,
    )


def transformers_classifier(spec: Spec) -> Peer:
    return _transformers(spec, "ForImageClassification", lambda model, x: model(x).logits)


def transformers_bare(spec: Spec) -> Peer:
    return _transformers(spec, "Model", lambda model, x: model(x).pooler_output)


def transformers_masked(spec: Spec) -> Peer:
    """Masked image modelling: features of the encoder on images without a mask."""
    part = "swin" if spec.version == 1 else "swinv2"
    return _transformers(
        spec, "ForMaskedImageModeling", lambda model, x: getattr(model, part)(x).last_hidden_state.mean(1)
    )


def _transformers(spec: Spec, kind: str, run: Callable[[nn.Module, Tensor], Tensor]) -> Peer:
    """Its files spell V1 otherwise than its state_dict() does."""
    build = getattr(transformers, f"Swin{'' if spec.version == 1 else 'v2'}{kind}")
    model = randomise(build(transformers_config(spec)))
    with tempfile.TemporaryDirectory() as folder, quiet():
        model.save_pretrained(folder)
        state = load_file(Path(folder) / "model.safetensors")
    return Peer(format="transformers", model=model, state=state, run=partial(run, model), untold=spec.untold)


def torchvision(spec: Spec) -> Peer:
    """Its state dict holds the buffers that tell the windows; where the model runs at a window that is not the trained
    one, as no class of torchvision by itself does, they are those of the trained one."""
    model = _torchvision(spec)
    for i, p in enumerate(spec.trained or ()):
        for block in model.features[2 * i + 1]:
            own = (block.attn.relative_coords_table.double() * 3).abs().exp2() - 1
            scaled = torch.log2(own * (spec.window[0] - 1) / (p - 1) + 1) / 3
            block.attn.relative_coords_table.copy_(scaled * block.attn.relative_coords_table.sign())
    model = randomise(model)
    return Peer(format="torchvision", model=model, state=model.state_dict(), run=model)


def _torchvision(spec: Spec) -> nn.Module:
    fields: dict[str, Any] = {
        "window_size": list(spec.window),
        "embed_dim": spec.embed_dim,
        "depths": list(spec.depths),
        "num_heads": list(spec.num_heads),
        "num_classes": spec.num_classes,
    }
    if len(spec.window) == 3:
        return torchvision_video.SwinTransformer3d(patch_size=[2, 4, 4], **fields)
    if spec.version == 2:
        fields["block"] = torchvision_image.SwinTransformerBlockV2
        fields["downsample_layer"] = torchvision_image.PatchMergingV2
    return torchvision_image.SwinTransformer(patch_size=[4, 4], **fields)


def plain_fields(spec: Spec) -> dict[str, Any]:
    """Arguments of `plain.Swin`."""
    return {**vars(spec), "window": spec.window[0], "image_size": spec.image_size[0]}


def microsoft(spec: Spec) -> Peer:
    """The plain definition, buffers included."""
    model = randomise(plain.Swin(**plain_fields(spec)))
    return Peer(format="microsoft", model=model, state=model.state_dict(), run=model)


def microsoft_by_timm(spec: Spec) -> Peer:
    """timm's class, filled with the weights of the plain definition by timm's reader of Microsoft's layout."""
    model, state = _timm(spec).eval(), microsoft(spec).state
    reader = timm_v1 if spec.version == 1 else timm_v2
    model.load_state_dict(reader.checkpoint_filter_fn(dict(state), model), strict=True)
    return Peer(format="microsoft", model=model, state=state, run=model)


def simmim(spec: Spec) -> Peer:
    """A pre-training in Microsoft's layout: features of the encoder on images without a mask."""
    model = randomise(plain.SimMIM(**plain_fields(spec)))
    return Peer(format="microsoft", model=model, state=model.state_dict(), run=model.encoder)


def mmpretrain(spec: Spec) -> Peer:
    model = randomise(plain.Swin(**plain_fields(spec), merging=plain.UnfoldMerging))
    state = plain.mmpretrain_names(model.state_dict(), spec.version)
    return Peer(format="mmpretrain", model=model, state=state, run=model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    yield
    if shown:
        transformers.utils.logging.enable_progress_bar()
