"""Weights under our own names to a state dict, a file or a folder of another format."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swinv2.checkpoint.buffers import write_buffers
from swinv2.checkpoint.layouts import FORMATS, LAYOUTS, OWN, Layout
from swinv2.checkpoint.mapping import to_foreign
from swinv2.checkpoint.reading import OUR_KEY
from swinv2.config import SwinConfig, did_you_mean
from swinv2.files import written_aside
from swinv2.storage import ENCODERS, Stored, metadata, some, write_safetensors
from swinv2.storage import write as write_own

WRAPPERS = {"microsoft": "model", "mmpretrain": "state_dict"}
"""Key under which a format's own files keep the weights."""
V1 = ("pre", "dot", "table", True, "before")
V2 = ("res_post", "cosine", "log_cpb", False, "after")


def write(stored: Stored, path: str | os.PathLike[str], to: str) -> dict[str, Tensor]:
    """Write ``stored`` in a format and return its state dict.

    The path's suffix chooses: .safetensors; .pth, .pt or .bin for torch.save; for transformers, none for a folder.

    Raises:
        ValueError: an unknown format or suffix, or a model that the format cannot hold.
    """
    path, tensors = Path(path), state_dict(stored, to)
    if to == OWN.format:
        if path.suffix != ".safetensors":
            raise ValueError(f"{str(path)!r} should end in .safetensors: our own format is no other.")
        write_own(path, stored)
    elif path.suffix == ".safetensors":
        said = metadata(stored.config, stored.info, stored.kind)
        write_safetensors(path, tensors, {"format": "pt", OUR_KEY: json.dumps(said)})
    elif path.suffix in (".pth", ".pt", ".bin"):
        _warn_of_lost_windows(stored, to)
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        with written_aside(path) as aside:
            try:
                torch.save({WRAPPERS[to]: whole} if to in WRAPPERS else whole, aside)
            except RuntimeError as error:  # a full disk, say
                raise OSError(f"cannot write {str(path)!r}: {str(error).splitlines()[0]}") from error
    elif to == "transformers" and not path.suffix:
        _write_folder(stored, tensors, path)
    else:
        folder = " (or no suffix: a folder)" if to == "transformers" else ""
        raise ValueError(f"{str(path)!r} should end in .safetensors, .pth, .pt or .bin{folder}.")
    return tensors


def _warn_of_lost_windows(stored: Stored, to: str) -> None:
    config = stored.config
    if to in ("timm", "transformers", "mmpretrain") and config.trained_window_size != config.window_size:
        warnings.warn(
            f"the file does not say that the weights were trained at window {config.trained_window_size}: write "
            ".safetensors, whose metadata do.",
            stacklevel=4,
        )


def state_dict(stored: Stored, to: str) -> dict[str, Tensor]:
    """The state dict of ``stored`` in a format, buffers included.

    Raises:
        ValueError: an unknown format, or a model that the format cannot hold.
    """
    if to not in FORMATS:
        raise ValueError(f"There is no format {to!r}{did_you_mean(to, FORMATS)}: use one of {', '.join(FORMATS)}.")
    if stored.kind not in ENCODERS and to != OWN.format:
        raise ValueError(f"The {to} format has no {stored.kind}: use 'swinv2'.")
    if stored.kind in ENCODERS and stored.config.num_classes and "head.weight" not in stored.tensors:
        raise ValueError("num_classes asks for a fresh head, which has no weights to write: pass num_classes=0.")
    if to == OWN.format:
        return dict(stored.tensors)
    layout = _layout(stored, to)
    if to == "torchvision" and len(set(stored.config.window_size)) > 1:
        raise ValueError(
            f"torchvision has one window for all stages, not {stored.config.window_size}: pass window_size, such as "
            f"{max(stored.config.window_size)}."
        )
    return to_foreign(stored.tensors, layout, stored.config) | write_buffers(layout, stored.config)


def _layout(stored: Stored, to: str) -> Layout:
    """The first layout of a format that can hold the weights."""
    config = stored.config
    switches = (
        config.norm_placement,
        config.attention_score,
        config.position_bias,
        config.key_bias,
        config.merge_norm,
    )
    if switches not in (V1, V2):
        raise ValueError(f"No other library has this mixture of V1 and V2 ({some(map(str, switches))}): use 'swinv2'.")
    layouts = [layout for layout in LAYOUTS if layout.format == to]
    for layout in layouts:
        if config.attention_score in layout.scores and config.ndim in layout.axes and _holds(layout, stored):
            return layout
    what = f"{'V1' if switches == V1 else 'V2'} models of {config.ndim} axes"
    parts = " with the mask token and decoder of a pre-training" if "decoder.weight" in stored.tensors else ""
    extra = " with extra norms" if config.extra_norm_interval else ""
    raise ValueError(f"The {to} format has no {what}{parts}{extra}: use 'swinv2'.")


def _holds(layout: Layout, stored: Stored) -> bool:
    """Whether a layout has a name for each optional part of the weights."""
    return (
        (layout.head is not None or not stored.config.num_classes)
        and (layout.extra_norm is not None or not stored.config.extra_norm_interval)
        and (layout.mask_token is not None or "mask_token" not in stored.tensors)
        and (layout.decoder is not None or "decoder.weight" not in stored.tensors)
    )


def _write_folder(stored: Stored, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """As transformers' save_pretrained leaves it."""
    config = transformers_config(stored)
    stale = [] if stored.info.preprocessing else ["preprocessor_config.json"]
    for name in ("model.safetensors.index.json", *stale):
        if (folder / name).exists():
            raise ValueError(f"{str(folder)!r} holds {name} of another model: choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    said = {"format": "pt", OUR_KEY: json.dumps(metadata(stored.config, stored.info, stored.kind))}
    write_safetensors(folder / "model.safetensors", tensors, said)
    _write_json(folder / "config.json", config)
    preprocessing = stored.info.preprocessing
    if preprocessing is not None:
        height, width = preprocessing.size
        processor = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": height, "width": width},
            "resample": {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}[preprocessing.interpolation],
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(preprocessing.mean),
            "image_std": list(preprocessing.std),
        }
        _write_json(folder / "preprocessor_config.json", processor)


def transformers_config(stored: Stored) -> dict[str, Any]:
    """config.json of transformers' Swin or Swinv2.

    Raises:
        ValueError: windows that transformers cannot express: it has one square window, smaller only where the map is.
    """
    config, version = stored.config, "swin" if stored.config.attention_score == "dot" else "swinv2"
    size = stored.info.preprocessing.size if stored.info.preprocessing else _smallest_size(config)
    window = _square_window(config, size)
    classes = stored.info.classes or [f"LABEL_{label}" for label in range(config.num_classes)]
    kind = "MaskedImageModeling" if "decoder.weight" in stored.tensors else "ImageClassification"
    has_head = config.num_classes or kind == "MaskedImageModeling"
    fields: dict[str, Any] = {
        "architectures": [f"{version.capitalize()}{f'For{kind}' if has_head else 'Model'}"],
        "model_type": version,
        "image_size": size[0] if size[0] == size[1] else list(size),
        "patch_size": config.patch_size[0],
        "num_channels": config.in_channels,
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": window,
        "mlp_ratio": config.mlp_ratio,
        "qkv_bias": True,
        "drop_path_rate": config.drop_path_rate,
        "hidden_size": config.num_features,
        "id2label": {str(label): name for label, name in enumerate(classes)},
        "label2id": {name: label for label, name in enumerate(classes)},
    }
    if version == "swinv2":
        fields["pretrained_window_sizes"] = [_one(trained) for trained in config.trained_window_size]
    if "decoder.weight" in stored.tensors:
        fields["encoder_stride"] = round((stored.tensors["decoder.weight"].shape[0] / config.in_channels) ** 0.5)
    return fields


def _square_window(config: SwinConfig, size: tuple[int, ...]) -> int:
    window = max(_one(stage) for stage in config.window_size)
    if config.position_bias == "table" and len(set(config.window_size)) > 1:
        raise ValueError(f"transformers has one table size, not {config.window_size}: pass window_size={window}.")
    for stage, grid in zip(config.window_size, config.grids(size), strict=True):
        if stage != (window, window) and stage != tuple(min(window, g) for g in grid):
            raise ValueError(
                f"transformers has one window for all stages, not {config.window_size}: pass window_size={window}."
            )
    return window


def _one(window: tuple[int, ...]) -> int:
    if len(set(window)) > 1:
        raise ValueError(f"transformers has square windows only, not {window}.")
    return window[0]


def _smallest_size(config: SwinConfig) -> tuple[int, ...]:
    """The smallest resolution at which no map is below its window; where only the last stages' trained windows are
    smaller, the training's, whose maps they are.
    """
    windows = config.window_size
    if config.trained_window_size[0] == windows[0]:
        windows = config.trained_window_size
    return tuple(
        max(stride[axis] * window[axis] for stride, window in zip(config.strides, windows, strict=True))
        for axis in range(config.ndim)
    )


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
