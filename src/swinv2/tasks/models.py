"""Models of every kind from files of our own, each of which alone rebuilds its model."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swinv2.checkpoint.reading import Raw
from swinv2.checkpoint.recognise import recognise
from swinv2.checkpoint.settle import wanted_config
from swinv2.checkpoint.transfer import transfer
from swinv2.config import SwinConfig, WindowSpec
from swinv2.model import Native
from swinv2.storage import Stored, check_tensors, read, recorded_kind

MODELS = {
    "classifier": "swinv2.model.SwinTransformer",
    "detector": "swinv2.model.detect.native.SwinDetector",
    "segmenter": "swinv2.model.upernet.Segmenter",
    "simmim": "swinv2.model.SimMIM",
}
"""The class of each kind of model, imported when it is first made."""

BACKBONE = "backbone."


def make_model(kind: str, config: SwinConfig, head: Mapping[str, Any]) -> Native:
    """A fresh model of a kind.

    Args:
        kind: As `swinv2.model.Native.kind`.
        config: Its architecture.
        head: The plain data of its head.

    Raises:
        ValueError: There is no such kind, or these data make no head of it.
    """
    if kind not in MODELS:
        raise ValueError(f"there is no model of kind {kind!r} (known: {', '.join(MODELS)}): update swinv2.")
    module, name = MODELS[kind].rsplit(".", 1)
    try:
        model: Native = getattr(importlib.import_module(module), name)(config, **head)
    except TypeError as error:
        raise ValueError(f"a {kind} cannot be made of {dict(head)}: {error}.") from error
    return model


def kind_of(weights: str | os.PathLike[str]) -> str | None:
    """The kind of model in a file or folder of ours; None for what is none, such as a hub id."""
    path = Path(weights)
    if not path.exists():
        return None
    return recorded_kind(path / "model.safetensors" if path.is_dir() else path)


def axes_of(raw: Raw) -> int:
    """Axes of what an encoder of any known format takes: 2 of images, 3 of clips.

    Raises:
        ValueError: The weights cannot be recognised.
    """
    if raw.native is not None:
        return raw.native[0].ndim
    return len(recognise(raw.state).fields["patch_size"])


def load_model(
    path: str | os.PathLike[str], kind: str | None = None, *, window_size: WindowSpec | None = None
) -> Native:
    """The model of a file of ours, fp32, in evaluation mode on the CPU; `swinv2.load` reads other formats.

    Args:
        path: The file.
        kind: What it must hold; None takes any kind.
        window_size: Another window, to which position biases transfer; see `swinv2.load`.

    Raises:
        ValueError: It is no file of ours, or damaged, or holds another kind of model.
    """
    stored, name = read(path), repr(os.fspath(path))
    if kind not in (None, stored.kind):
        raise ValueError(f"{name} holds a {stored.kind}, not a {kind}: choose other weights.")
    if window_size is not None:
        stored = at_window(stored, window_size)
    model = make_model(stored.kind, stored.config, stored.head)
    check_tensors(name, model.state_dict(), stored.tensors)
    model.load_state_dict(stored.tensors)
    model.info = stored.info
    return model.eval()


def at_window(stored: Stored, window_size: WindowSpec) -> Stored:
    """The same weights for another window, to which the position biases of the encoder or the backbone transfer."""
    wanted = wanted_config(stored.config, {"window_size": window_size})
    inner = BACKBONE if any(name.startswith(BACKBONE) for name in stored.tensors) else ""
    body = {name.removeprefix(inner): x for name, x in stored.tensors.items() if name.startswith(inner)}
    moved = {f"{inner}{name}": x for name, x in transfer(body, stored.config, wanted).items()}
    return replace(stored, config=wanted, tensors={**stored.tensors, **moved})
