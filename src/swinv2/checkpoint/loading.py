"""Weights of any known format in and out: `load`, `save` and `convert`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from swinv2.checkpoint import writing
from swinv2.checkpoint.hints import fitting
from swinv2.checkpoint.mapping import to_native
from swinv2.checkpoint.reading import Raw, Source, read
from swinv2.checkpoint.recognise import recognise
from swinv2.checkpoint.settle import merged_info, stored_config, wanted_config
from swinv2.checkpoint.transfer import transfer
from swinv2.config import SwinConfig
from swinv2.info import ModelInfo
from swinv2.model import Native, SwinTransformer
from swinv2.preprocessing import Preprocessing
from swinv2.storage import ENCODERS, Stored, check_tensors, encoder_kind

Dtype = torch.dtype | Literal["keep"]
PRETRAINING = ("mask_token", "decoder.weight", "decoder.bias")
"""What SimMIM has beside the backbone."""


def load(
    source: Source | Raw,
    *,
    dtype: Dtype = torch.float32,
    class_indices: Sequence[int] | str | None = None,
    key: str | None = None,
    **overrides: Any,
) -> SwinTransformer:
    """A model from weights of any known format, in evaluation mode on the CPU; ``model.info`` says what is known of it.

    Args:
        source: a file, a folder with config.json, a hub id, the name of published weights, a state dict, or what
            `swinv2.checkpoint.reading.read` made of one of them.
        dtype: of the parameters; "keep" leaves them as they are stored.
        class_indices: rows of the head to keep, in the new order, or "imagenet22k_to_1k".
        key: which weights to take where a checkpoint holds several, such as "state_dict_ema".
        overrides: fields of `SwinConfig`, such as ``window_size`` (position biases transfer), ``num_classes`` (another
            count starts a fresh head, with a warning), ``in_channels``, ``patch_size`` with three numbers (images
            become clips), ``trained_window_size``; and ``image_size``, the resolution the weights were trained at,
            from which the trained windows follow when nothing else tells them.

    Raises:
        ValueError: the weights cannot be read or recognised, do not tell their window, or do not fit the overrides.
    """
    stored = read_stored(source, key=key, class_indices=class_indices, **overrides)
    tensors, stored = dict(stored.tensors), replace(stored, tensors={})
    left_out = [tensors.pop(name) for name in PRETRAINING if name in tensors]
    if left_out:
        warnings.warn("the mask token and decoder of the pre-training are no part of the model: left out", stacklevel=2)
    for name in tensors:  # one by one: each mapped or shared tensor is let go as soon as it is copied
        tensors[name] = tensors[name].clone()
    return build(replace(stored, tensors=tensors), dtype)


def build(stored: Stored, dtype: Dtype = "keep") -> SwinTransformer:
    """The model of weights under our own names, which it takes over; a head that they lack starts fresh."""
    with torch.device("meta"):
        model = SwinTransformer(stored.config)
    tensors = dict(stored.tensors)
    if stored.config.num_classes and "head.weight" not in tensors:
        head = torch.nn.Linear(stored.config.num_features, stored.config.num_classes)
        torch.nn.init.trunc_normal_(head.weight, std=0.02)
        torch.nn.init.zeros_(head.bias)
        head.to(tensors["norm.weight"])
        tensors |= {f"head.{name}": parameter.detach() for name, parameter in head.named_parameters()}
    tensors = dict(cast(replace(stored, tensors=tensors), dtype).tensors)
    check_tensors("The file", model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    model.info = stored.info
    return model.eval()


def read_stored(
    source: Source | Raw,
    *,
    key: str | None = None,
    class_indices: Sequence[int] | str | None = None,
    **overrides: Any,
) -> Stored:
    """Weights of any known format under our own names, transferred to what the overrides ask; see `load`."""
    indices = _imagenet_indices() if class_indices == "imagenet22k_to_1k" else class_indices
    if isinstance(indices, str):
        raise ValueError(f"class_indices is {indices!r}, but must be a list of numbers or 'imagenet22k_to_1k'.")
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if indices is not None:
        overrides.setdefault("num_classes", len(indices))
    stored = _settled(read(source, key=key), overrides)
    wanted = wanted_config(stored.config, overrides)
    tensors = transfer(stored.tensors, stored.config, wanted, indices)
    return Stored(wanted, tensors, _info(stored, wanted, indices), stored.kind)


def _settled(raw: Raw, overrides: Mapping[str, Any]) -> Stored:
    """Tensors under our names, with the configuration they were stored with."""
    if raw.native is not None:
        config, info = raw.native
        trained = overrides.get("trained_window_size")
        if trained is not None and config.position_bias != "table":
            config = replace(config, trained_window_size=trained)
        return _checked(raw.name, Stored(config, raw.state, info, encoder_kind(raw.state)))
    found = recognise(raw.state)
    hints = fitting(raw.hints, found.fields)
    config = stored_config(found, hints, overrides)
    tensors = to_native(found.state, found.layout, config)
    info = merged_info(found.layout.format, hints, config)
    return _checked(raw.name, Stored(config, tensors, info, encoder_kind(tensors)))


def _checked(name: str, stored: Stored) -> Stored:
    """The same, once every name and shape is known to be right."""
    config = stored.config
    if sum(config.depths) > len(stored.tensors):  # before a damaged configuration makes us build them
        raise ValueError(f"{name!r} holds the weights of another model: it has not the {sum(config.depths)} blocks.")
    with torch.device("meta"):
        expected = SwinTransformer(config).state_dict()
        decoder = stored.tensors.get("decoder.weight")
        if "mask_token" in stored.tensors:
            expected["mask_token"] = torch.empty(config.embed_dim)
        if decoder is not None:
            expected["decoder.weight"] = torch.empty(len(decoder), config.num_features, *(1,) * config.ndim)
            expected["decoder.bias"] = torch.empty(len(decoder))
    check_tensors(repr(name), expected, stored.tensors)
    return stored


def _info(stored: Stored, wanted: SwinConfig, indices: Sequence[int] | None) -> ModelInfo:
    """Class names follow the head; preprocessing is of images, or the frames of clips, with as many channels."""
    info, classes = stored.info, stored.info.classes
    if indices is not None:
        classes = tuple(classes[index] for index in indices) if classes else ()
    elif wanted.num_classes != stored.config.num_classes:
        classes = ()
    same_input = wanted.in_channels == stored.config.in_channels
    return replace(info, classes=classes, preprocessing=info.preprocessing if same_input else None)


def save(
    model: Native,
    path: str | os.PathLike[str],
    *,
    to: str = "swinv2",
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights, aside and renamed.

    Args:
        model: what to save; its trained windows, and what ``model.info`` says, are kept wherever the format can; a
            SimMIM's mask token and decoder too. A model with a head of its own is written as swinv2 alone.
        path: a file; for transformers also a folder. An existing file is replaced whole.
        to: swinv2 (safetensors that rebuild everything), microsoft, timm, transformers, torchvision or mmpretrain.
        classes: names of the head's outputs, in order, instead of the model's own.
        preprocessing: instead of the model's own.
        extra: further remarks, by key, instead of the model's own.

    Raises:
        ValueError: the format cannot hold this model, or the class names do not fit the head.
        OSError: the file cannot be written.
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, Native):
        raise ValueError(f"save takes a SwinTransformer, not a {type(model).__name__}: save the model it was made of.")
    info = model.info
    info = ModelInfo(
        classes=info.classes if classes is None else tuple(classes),
        preprocessing=preprocessing or info.preprocessing,
        source=info.source,
        extra=info.extra if extra is None else extra,
    )
    stored = Stored(model.config, _state_dict(model), info, model.kind, model.head_config)
    writing.write(_checked("the model", stored) if model.kind in ENCODERS else stored, path, to)


def convert(
    source: Source,
    *,
    to: str,
    path: str | os.PathLike[str] | None = None,
    dtype: Dtype = "keep",
    class_indices: Sequence[int] | str | None = None,
    key: str | None = None,
    **overrides: Any,
) -> dict[str, Tensor]:
    """Weights of any known format in another: parameters bit for bit, buffers as the other's class computes them.

    Args:
        source: see `load`.
        to: see `save`.
        path: where to write them; None only returns them.
        dtype: of the parameters; "keep" leaves them as they are stored.
        class_indices: see `load`.
        key: see `load`.
        overrides: see `load`.

    Returns:
        The state dict of the other format.

    Raises:
        ValueError: the weights cannot be read, or the format cannot hold them.
    """
    stored = cast(read_stored(source, key=key, class_indices=class_indices, **overrides), dtype)
    if path is not None:
        return writing.write(stored, path, to)
    return writing.state_dict(stored, to)


def cast(stored: Stored, dtype: Dtype) -> Stored:
    """The same weights in another dtype; "keep" changes nothing."""
    if dtype == "keep":
        return stored
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype is {dtype!r}, but must be a torch.dtype such as torch.bfloat16, or 'keep'.")
    return replace(stored, tensors={name: tensor.to(dtype) for name, tensor in stored.tensors.items()})


def _imagenet_indices() -> tuple[int, ...]:
    """For each of ImageNet's 1000 classes its row among the 21841 of the 22K heads, as Microsoft remaps them."""
    text = (Path(__file__).parent / "imagenet22k_to_1k.txt").read_text(encoding="ascii")
    return tuple(map(int, text.split()))


def _state_dict(model: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters by name, without the prefix that torch.compile puts before them."""
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in model.state_dict().items()}
