"""Hugging Face datasets: saved to disk, parquet files, an image folder with metadata, or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetsError
from typing_extensions import override

from swinv2.data.image import Readable
from swinv2.data.options import DataOptions
from swinv2.data.sources.base import ImageSource, Parts, by_split, check_labels, shared_classes
from swinv2.data.sources.files import find_files, group_by_part, part_of

HUB = "hf:"
PARQUET = ("*.parquet", "data/*.parquet")
SAVED = ("dataset_dict.json", "state.json")


@dataclass(frozen=True, kw_only=True, eq=False)
class HuggingFace(ImageSource):
    """The rows of one dataset; images stay encoded in its memory map until asked for."""

    rows: Any  # datasets.Dataset with the image column alone, not decoded
    column: str
    where: str

    @override
    def name(self, index: int) -> str:
        return f"{self.where}, row {index}"

    @override
    def raw(self, index: int) -> Readable:
        stored = self.rows[index][self.column] or {}
        return stored.get("bytes") or stored.get("path") or b""


def huggingface_parts(options: DataOptions) -> Parts:
    """The parts of a dataset, whose image and label columns are found by their types where not named."""
    loaded = _load(options.path)
    parts = by_split(loaded)
    if not parts:
        raise ValueError(
            f"{options.path} has the splits {', '.join(loaded)}, none of which is train or val: rename one."
        )
    features = next(iter(parts.values())).features
    image = options.image_column or _only(features, datasets.Image, "image_column")
    label = options.label_column or _only(features, datasets.ClassLabel, "label_column")
    missing = {image, label} - set(features)
    if missing:
        raise ValueError(f"{options.path} has no column {missing.pop()!r}: it has {', '.join(features)}.")
    classes = shared_classes({split: _classes(rows, label) for split, rows in parts.items()}, options.path)
    opener = partial(_open, image=image, label=label, classes=classes)
    return {split: partial(opener, rows, where=f"{options.path}, {split}") for split, rows in parts.items()}


def _load(path: str) -> Mapping[str, Any]:
    """A dataset's parts by name; one without parts is its own name's part, or a train part."""
    try:
        loaded = _read(path)
    except (OSError, ValueError, LookupError, DatasetsError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is no readable Hugging Face dataset ({reason}): check its name and files.") from error
    return loaded if isinstance(loaded, Mapping) else {part_of(str(loaded.split)) or "train": loaded}


def _read(path: str) -> Any:
    if path.startswith(HUB):
        return datasets.load_dataset(path.removeprefix(HUB))
    if any((Path(path) / name).exists() for name in SAVED):
        return datasets.load_from_disk(path)
    if not Path(path).is_dir() or any(list(Path(path).glob(pattern)) for pattern in PARQUET):
        files = group_by_part(find_files(path, *PARQUET))
        return datasets.load_dataset("parquet", data_files={part: [*map(str, each)] for part, each in files.items()})
    return datasets.load_dataset("imagefolder", data_dir=path)


def _only(features: Mapping[str, Any], kind: type, option: str) -> str:
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(names) != 1:
        found = ", ".join(names or features)
        raise ValueError(f"{len(names)} columns are of type {kind.__name__}: set {option} to one of {found}.")
    return names[0]


def _classes(rows: Any, label: str) -> tuple[str, ...]:
    feature = rows.features[label]
    return tuple(feature.names if isinstance(feature, datasets.ClassLabel) else map(str, _values(rows, label)))


def _values(rows: Any, label: str) -> list[Any]:
    return sorted(value for value in rows.unique(label) if value is not None)


def _open(rows: Any, image: str, label: str, classes: tuple[str, ...], where: str) -> HuggingFace:
    labels = list(rows[label])
    if None in labels:
        raise ValueError(f"{where} has no label in row {labels.index(None)}: remove such rows, or set label_column.")
    if not isinstance(rows.features[label], datasets.ClassLabel):
        numbers = {value: number for number, value in enumerate(_values(rows, label))}
        labels = [numbers[value] for value in labels]
    check_labels(labels, classes, where)
    images = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    return HuggingFace(classes=classes, labels=labels, rows=images, column=image, where=where)
