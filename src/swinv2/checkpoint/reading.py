"""Files, folders and hub ids to a plain state dict and what stands beside it. Pickles are read as tensors only."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swinv2.checkpoint import published
from swinv2.checkpoint.hints import Hints, from_timm, from_transformers, from_yacs, of_config
from swinv2.config import SwinConfig
from swinv2.download import WEIGHTS
from swinv2.info import ModelInfo
from swinv2.storage import FORMAT, check_encoder, parse_kind, parse_metadata, read_safetensors, some

Source = str | os.PathLike[str] | Mapping[str, Any]
OUR_KEY = "swinv2"
"""Key under which our metadata travel in a safetensors file of another format."""


@dataclass(frozen=True)
class Raw:
    """Tensors as they were stored, and hints, the most trustworthy first.

    ``native`` is set where the file is ours; nothing has to be guessed then.
    """

    state: Mapping[str, Tensor]
    hints: tuple[Hints, ...] = ()
    native: tuple[SwinConfig, ModelInfo] | None = None
    name: str = "the state dict"


class Remains:
    """Stands in a checkpoint for an object of another library, which nobody needs; nothing of it runs."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Take what the other object was made from."""

    def __setstate__(self, state: Any) -> None:
        """Take what the other object held."""


HARMLESS: dict[str, type] = {
    "yacs.config.CfgNode": OrderedDict,  # a dict subclass with attributes: only an OrderedDict is filled likewise
    "mmengine.config.config.ConfigDict": OrderedDict,
    "argparse.Namespace": Remains,
    "mmengine.logging.history_buffer.HistoryBuffer": Remains,
    "numpy.dtype": Remains,
    "numpy.core.multiarray.scalar": Remains,
    "numpy._core.multiarray.scalar": Remains,
    "numpy.core.multiarray._reconstruct": Remains,
    "numpy._core.multiarray._reconstruct": Remains,
    "numpy.ndarray": Remains,
    "pathlib.PosixPath": Remains,
    "pathlib._local.PosixPath": Remains,
}
"""Classes that training code leaves beside the weights, and what is made in their place."""


def read(source: Source | Raw, *, key: str | None = None) -> Raw:
    """Read a state dict from a file, a folder, a hub id, or memory; what is read already stays as it is.

    Args:
        source: a path, a hub id such as ``"microsoft/swinv2-tiny-patch4-window8-256"``, the name of a published
            record, or a state dict.
        key: which one to take where a checkpoint holds several sets of weights.

    Raises:
        ValueError: there is no such thing, it cannot be read, or it holds no weights; one sentence says what.
    """
    if isinstance(source, Raw):
        return source
    if isinstance(source, Mapping):
        return Raw(*_weights(source, "The state dict", key))
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, key)
    if path.is_file():
        return _read_file(path, key)
    name = os.fspath(source)
    if path.suffix in _SUFFIXES or path.is_absolute() or name.startswith((".", "~")) or not _like_an_id(name):
        raise ValueError(f"There is no weights file {name!r}.")
    return _published(name, key)


_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar"}


def _like_an_id(name: str) -> bool:
    return published.find(name) is not None or (name.count("/") == 1 and not name.endswith("/"))


def _published(name: str, key: str | None) -> Raw:
    record = published.find(name)
    raw = read(published.fetch(name), key=key)
    if record is None or raw.native is not None:
        return raw
    hints = of_config(record.config(), record.info(), record.image_size)
    return Raw(raw.state, (*raw.hints, hints), None, name)


def _of_record(record: published.Record) -> Hints:
    """What a record tells of weights that only go by its name, and may be somebody's own: nothing of a licence."""
    return of_config(record.config(), replace(record.info(), extra={}), record.image_size)


def _read_folder(folder: Path, key: str | None) -> Raw:
    """A folder as transformers or timm save it: config.json beside the weights, in one file or several."""
    config, processor = _json(folder / "config.json"), _json(folder / "preprocessor_config.json")
    present = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    raw = _read_shards(folder, key) if present is None else _read_file(present, key)
    if raw.native is not None or not config:
        return raw
    with _understood(folder / "config.json"):
        if "architecture" not in config:
            return Raw(raw.state, (*raw.hints, from_transformers(config, processor)), None, str(folder))
        name, hints = from_timm(config)
        record = published.find(name)
        return Raw(raw.state, (*raw.hints, hints, *([_of_record(record)] if record else [])), None, str(folder))


def _read_shards(folder: Path, key: str | None) -> Raw:
    """Weights in several files, as an index beside them says."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise ValueError(f"Folder {str(folder)!r} holds neither {' nor '.join(WEIGHTS)}: give the weights file.")
    places = _json(index).get("weight_map")
    names = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{str(index)!r} names {name!r}, which is no file in its folder.")
    if not names:
        raise ValueError(f"{str(index)!r} names no files.")
    shards = [_read_file(folder / name, key) for name in names]
    return Raw({name: tensor for shard in shards for name, tensor in shard.state.items()}, name=str(folder))


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Values of the wrong kind in a file of plain data become one sentence that names the file."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"{str(path)!r} cannot be used: {_first_line(error)}") from error


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{str(path)!r} holds no JSON object.")
    return data


def _read_file(path: Path, key: str | None) -> Raw:
    record = published.find(path.name)
    hints = (_of_record(record),) if record else ()
    if path.suffix == ".safetensors":
        if key is not None:
            raise ValueError(f"{str(path)!r} holds one set of weights only: leave the key {key!r} out.")
        tensors, said = read_safetensors(path)
        if said.get("format") == FORMAT:
            check_encoder(repr(str(path)), parse_kind(str(path), said)[0])
            return Raw(tensors, native=parse_metadata(str(path), said), name=str(path))
        if OUR_KEY in said:
            with _understood(path):
                ours = parse_metadata(str(path), json.loads(said[OUR_KEY]))
            hints = (of_config(*ours), *hints)
        return Raw(tensors, hints, None, str(path))
    state, found = _weights(_unpickle(path), repr(str(path)), key)
    return Raw(state, (*found, *hints), None, str(path))


DAMAGED = (
    *(RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(OSError, OverflowError, AssertionError, struct.error, zipfile.BadZipFile),
)
"""What torch.load raises for files that are none of its own, or half of them."""


def _unpickle(path: Path) -> Any:
    """The content of a file of torch.save, tensors mapped from it; no code of it runs."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in HARMLESS.items()]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            what = str(error).partition("GLOBAL ")[2].split(" ")[0] or "an object"
            raise ValueError(
                f"{str(path)!r} holds Python objects ({what}) that could run code: only tensors and plain data are "
                "read; save its state dict alone."
            ) from None
        raise ValueError(f"{str(path)!r} is no checkpoint, or damaged.") from error
    except DAMAGED as error:
        raise ValueError(f"{str(path)!r} is no checkpoint, or damaged ({_first_line(error)}).") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _weights(content: Any, name: str, key: str | None) -> tuple[dict[str, Tensor], tuple[Hints, ...]]:
    """The one set of weights in a checkpoint, and what its configuration says."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{name} holds {type(content).__name__}, not a state dict.")
    hints = _configuration(content)
    sets = dict(_sets(content))
    if key is not None and key not in sets:
        raise ValueError(f"{name} has no weights under {key!r}, only under {some(sorted(sets)) or 'no key at all'}.")
    if key is None and len(sets) > 1:
        raise ValueError(f"{name} holds several sets of weights: choose one of {some(sorted(sets))} by its key.")
    if not sets:
        raise ValueError(f"{name} holds no weights: its keys are {some(map(str, content)) or 'none'}.")
    return sets[key] if key is not None else next(iter(sets.values())), hints


OF_THE_TRAINER = ("optimizer", "callbacks", "loops", "lr_scheduler")
"""Beginnings of the keys under which training code keeps what are no weights."""


def _sets(content: Mapping[Any, Any], where: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Mappings of names to tensors, in a checkpoint or one level below."""
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if any("." in name for name in tensors):
        yield where, tensors
    elif where.count(".") < 2:
        for name, value in content.items():
            if isinstance(value, Mapping) and isinstance(name, str) and not name.startswith(OF_THE_TRAINER):
                yield from _sets(value, f"{where}.{name}" if where else name)


def _configuration(content: Mapping[Any, Any]) -> tuple[Hints, ...]:
    config, ours = content.get("config"), content.get("model")
    if isinstance(ours, Mapping) and ours.get("format") == FORMAT:  # a checkpoint of our own training
        check_encoder("the checkpoint", parse_kind("the checkpoint", ours)[0])
        return (of_config(*parse_metadata("the checkpoint", ours)),)
    return (from_yacs(config),) if isinstance(config, Mapping) and "MODEL" in config else ()
