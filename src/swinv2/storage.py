"""Our own weights file: safetensors whose metadata say everything that rebuilds a model and its predictions.

Only tensors and plain data here: `swinv2.checkpoint` makes models of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from swinv2.config import SwinConfig
from swinv2.files import written_aside
from swinv2.info import ModelInfo
from swinv2.preprocessing import Preprocessing

FORMAT, FORMAT_VERSION = "swinv2", 1
CLASSIFIER, SIMMIM = "classifier", "simmim"
ENCODERS = (CLASSIFIER, SIMMIM)
"""Kinds of model that are an encoder and little else: each can start from the other's weights."""


@dataclass(frozen=True)
class Stored:
    """Weights under our own names, the architecture they fit, and what is known of them.

    Args:
        config: the architecture; of a model with a head of its own, that of its backbone, with its number of classes.
        tensors: the parameters by name.
        info: what is known of them.
        kind: of model, such as "classifier" or "simmim".
        head: plain data that rebuild a head of its own.
    """

    config: SwinConfig
    tensors: Mapping[str, Tensor]
    info: ModelInfo
    kind: str = CLASSIFIER
    head: Mapping[str, Any] = field(default_factory=dict)


def write(path: str | os.PathLike[str], stored: Stored) -> None:
    """Write weights to a safetensors file, aside and renamed; an existing file is replaced whole.

    Raises:
        ValueError: the number of class names is not the number of classes.
        OSError: the file cannot be written.
    """
    write_safetensors(path, stored.tensors, metadata(stored.config, stored.info, stored.kind, stored.head))


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write any tensors and metadata, aside and renamed."""
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with written_aside(path) as aside:
        try:
            save_file(whole, aside, dict(metadata))
        except SafetensorError as error:  # a full disk, say
            raise OSError(f"cannot write {os.fspath(path)!r}: {error}") from error


def metadata(
    config: SwinConfig, info: ModelInfo, kind: str = CLASSIFIER, head: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """What a file of ours says of its tensors; see `Stored`.

    Raises:
        ValueError: the number of class names is not the number of classes.
    """
    if info.classes and len(info.classes) != config.num_classes:
        raise ValueError(f"{len(info.classes)} class names were given for a head of {config.num_classes} classes.")
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": kind,
        **({"head": json.dumps(dict(head))} if head else {}),
        "config": json.dumps(config.to_dict()),
        "source": info.source,
        "classes": json.dumps(list(info.classes)),
        "extra": json.dumps(dict(info.extra)),
        "preprocessing": json.dumps(info.preprocessing.to_dict() if info.preprocessing else None),
    }


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, mapped from the file rather than copied, and metadata of any safetensors file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)!r} is not a whole safetensors file ({error}).") from error


def read(path: str | os.PathLike[str]) -> Stored:
    """What `write` wrote.

    Raises:
        ValueError: the file is missing, damaged, or not ours.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no weights file {os.fspath(path)!r}.")
    tensors, said = read_safetensors(path)
    if said.get("format") != FORMAT:
        raise ValueError(f"{os.fspath(path)!r} was not written by swinv2: it has no swinv2 metadata.")
    config, info = parse_metadata(os.fspath(path), said)
    return Stored(config, tensors, info, *parse_kind(os.fspath(path), said, encoder_kind(tensors)))


def recorded_kind(path: str | os.PathLike[str]) -> str | None:
    """The kind of model that a file of ours says it holds; None for any other file, or none."""
    if not Path(path).is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
    except SafetensorError:
        return None
    return said.get("kind") if said.get("format") == FORMAT else None


def encoder_kind(tensors: Iterable[str]) -> str:
    """Which of the `ENCODERS` parameters of these names are of."""
    return SIMMIM if "mask_token" in tensors else CLASSIFIER


def parse_kind(name: str, said: Mapping[str, str], silent: str = CLASSIFIER) -> tuple[str, dict[str, Any]]:
    """The kind of model that metadata speak of, and the plain data of its head; ``silent`` where they tell none."""
    return said.get("kind", silent), _json(name, said, "head", dict) if "head" in said else {}


def check_encoder(name: str, kind: str) -> None:
    """ValueError unless a kind of model is one of the `ENCODERS`; ``name`` is what the error calls the file."""
    if kind not in ENCODERS:
        raise ValueError(f"{name} holds a {kind}, not a classifier: swinv2.tasks.models.load_model opens it.")


def parse_metadata(name: str, said: Mapping[str, str]) -> tuple[SwinConfig, ModelInfo]:
    """Undo `metadata`; ``name`` is what errors call the file.

    Raises:
        ValueError: a part is missing or damaged, or of a newer version.
    """
    version = said.get("format_version", "")
    if not version.isdecimal():
        raise ValueError(f"{name!r} has the format version {version!r}, which is none: it is damaged.")
    if int(version) > FORMAT_VERSION:
        raise ValueError(f"{name!r} has format version {version!r}, newer than this swinv2 reads: update swinv2.")
    config = SwinConfig.from_dict(_json(name, said, "config", dict))
    classes = tuple(_json(name, said, "classes", list))
    if classes and len(classes) != config.num_classes:
        raise ValueError(f"{name!r} names {len(classes)} classes for a head of {config.num_classes}.")
    preprocessing = _json(name, said, "preprocessing", dict | None)
    info = ModelInfo(
        classes=classes,
        preprocessing=_preprocessing(name, preprocessing) if preprocessing else None,
        source=said.get("source", FORMAT),
        extra=_json(name, said, "extra", dict),
    )
    return config, info


def check_tensors(name: str, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """ValueError unless names and shapes are those of a model; the sentence names what differs."""
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    misshapen = [name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape]
    for problem, names in (
        ("lacks", missing),
        ("has unknown", unexpected),
        ("has another shape for", sorted(misshapen)),
    ):
        if names:
            raise ValueError(f"{name} holds the weights of another model: it {problem} {some(names)}.")
    strange = [name for name, x in tensors.items() if expected[name].is_floating_point() > x.is_floating_point()]
    if strange:
        raise ValueError(f"{name} holds numbers that are not floating point in {some(sorted(strange))}.")


def some(names: Iterable[str]) -> str:
    """The first of many names, for errors."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _json(name: str, said: Mapping[str, str], key: str, kind: Any) -> Any:
    try:
        value = json.loads(said[key])
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{name!r} has no readable {key!r} in its metadata.") from error
    if not isinstance(value, kind):
        raise ValueError(f"{name!r} has {value!r} as {key!r} in its metadata, which is nothing of the kind.")
    return value


def _preprocessing(name: str, fields: Mapping[str, Any]) -> Preprocessing:
    try:
        return Preprocessing.from_dict(fields)
    except TypeError as error:
        raise ValueError(f"{name!r} has an incomplete preprocessing in its metadata: {error}.") from error
