"""Our own weights file: safetensors whose metadata rebuild the model and its predictions from the file alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from swinv2.config import SwinConfig
from swinv2.files import written_aside
from swinv2.model import SwinTransformer
from swinv2.preprocessing import Preprocessing

FORMAT, FORMAT_VERSION = "swinv2", 1


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode and what its file says of it; ``classes`` and ``preprocessing`` may be absent."""

    model: SwinTransformer
    classes: tuple[str, ...]
    preprocessing: Preprocessing | None
    extra: Mapping[str, str]


def save(
    path: str | os.PathLike[str],
    model: SwinTransformer,
    *,
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write ``model`` to a safetensors file, aside and renamed.

    Args:
        path: the file; an existing one is replaced whole.
        model: its parameters and `SwinConfig` (trained windows included) are stored.
        classes: names of the head's outputs, in order.
        preprocessing: what images go through before the model.
        extra: further metadata, by key.

    Raises:
        ValueError: the number of class names is not the number of classes.
    """
    if classes and len(classes) != model.config.num_classes:
        raise ValueError(f"{len(classes)} class names were given for a head of {model.config.num_classes} classes.")
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(model.config.to_dict()),
        "source": FORMAT,
        "classes": json.dumps(list(classes)),
        "extra": json.dumps(dict(extra or {})),
        "preprocessing": json.dumps(preprocessing.to_dict() if preprocessing else None),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in _state_dict(model).items()}
    with written_aside(path) as aside:
        _write(tensors, aside, metadata)


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # a full disk, say
        raise OSError(f"cannot write {str(path)!r}: {error}") from error


def load(path: str | os.PathLike[str]) -> Loaded:
    """Rebuild the model that `save` wrote, in evaluation mode, on the CPU, in the dtype it was saved in.

    Raises:
        ValueError: the file is missing, damaged, not ours, or its tensors are not those of its configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no weights file {str(path)!r}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a whole safetensors file ({error}).") from error
    return _rebuild(path, metadata, tensors)


def _rebuild(path: Path, metadata: Mapping[str, str], tensors: dict[str, Tensor]) -> Loaded:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{str(path)!r} was not written by swinv2: it has no swinv2 metadata.")
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise ValueError(f"{str(path)!r} has format version {version!r}, newer than this swinv2 reads: update swinv2.")
    config = SwinConfig.from_dict(_json(path, metadata, "config", dict))
    with torch.device("meta"):
        model = SwinTransformer(config)
    _check_tensors(path, model, tensors)
    model.load_state_dict(tensors, assign=True)
    classes = tuple(_json(path, metadata, "classes", list))
    if classes and len(classes) != config.num_classes:
        raise ValueError(f"{str(path)!r} names {len(classes)} classes for a head of {config.num_classes}.")
    preprocessing = _json(path, metadata, "preprocessing", dict | None)
    return Loaded(
        model=model.eval(),
        classes=classes,
        preprocessing=_preprocessing(path, preprocessing) if preprocessing else None,
        extra=_json(path, metadata, "extra", dict),
    )


def _json(path: Path, metadata: Mapping[str, str], key: str, kind: Any) -> Any:
    try:
        value = json.loads(metadata[key])
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} has no readable {key!r} in its metadata.") from error
    if not isinstance(value, kind):
        raise ValueError(f"{str(path)!r} has {value!r} as {key!r} in its metadata, which is nothing of the kind.")
    return value


def _preprocessing(path: Path, fields: Mapping[str, Any]) -> Preprocessing:
    try:
        return Preprocessing.from_dict(fields)
    except TypeError as error:
        raise ValueError(f"{str(path)!r} has an incomplete preprocessing in its metadata: {error}.") from error


def _check_tensors(path: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    misshapen = [name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape]
    for problem, names in (
        ("lacks", missing),
        ("has unknown", unexpected),
        ("has another shape for", sorted(misshapen)),
    ):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ValueError(f"{str(path)!r} holds the weights of another model: it {problem} {shown}.")


def _state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, without the prefix that torch.compile puts before them."""
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in model.state_dict().items()}
