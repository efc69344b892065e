from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from swinv2.data.image import UnreadableImage
from swinv2.data.options import DataOptions, Split
from swinv2.data.sources import ImageSource, open_split


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def rows(labels: list[int], names: tuple[str, ...] = ("cat", "dog"), first: int = 0) -> datasets.Dataset:
    """Row n is of shade n."""
    images = [Image.new("RGB", (6, 4), (number, 0, 0)) for number in range(first, first + len(labels))]
    features = datasets.Features({"photo": datasets.Image(), "animal": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"photo": images, "animal": labels}, features=features)


def opened(path: Path | str, split: Split, **options: object) -> ImageSource:
    return open_split(DataOptions(path=str(path), **options), split)


def shades(source: ImageSource) -> list[int]:
    return [source.image(index).getpixel((0, 0))[0] for index in range(len(source))]


def check(path: Path) -> None:
    train, val = opened(path, "train"), opened(path, "val")
    assert train.classes == val.classes == ("cat", "dog")
    assert (list(train.labels), shades(train)) == ([0, 1, 1], [0, 1, 2])
    assert (list(val.labels), shades(val)) == ([1, 0], [3, 4])


def test_saved_dataset_with_parts(tmp_path: Path) -> None:
    parts = {"train": rows([0, 1, 1]), "test": rows([1, 0], first=3)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    check(tmp_path / "saved")


@pytest.mark.parametrize("folder", [".", "data"])
def test_parquet_files(tmp_path: Path, folder: str) -> None:
    place = tmp_path / "parquet" / folder
    place.mkdir(parents=True)
    rows([0, 1, 1]).to_parquet(place / "train-00000-of-00001.parquet")
    rows([1, 0], first=3).to_parquet(place / "test-00000-of-00001.parquet")
    check(tmp_path / "parquet")


def test_saved_dataset_without_parts_is_divided(tmp_path: Path) -> None:
    rows([0] * 10 + [1] * 5).save_to_disk(tmp_path / "saved")
    train, val = opened(tmp_path / "saved", "train"), opened(tmp_path / "saved", "val")
    assert Counter(val.labels) == {0: 2, 1: 1}
    assert sorted(shades(train) + shades(val)) == list(range(15))


def test_single_parquet_file(tmp_path: Path) -> None:
    rows([0] * 5 + [1] * 5).to_parquet(tmp_path / "animals.parquet")
    assert len(opened(tmp_path / "animals.parquet", "val")) == 2


def test_image_folder_with_metadata(tmp_path: Path) -> None:
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "animal"])
        for number in range(10):
            Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
            table.writerow([f"{number}.png", "dog" if number % 2 else "cat"])
    val = opened(tmp_path, "val", label_column="animal")
    assert val.classes == ("cat", "dog")
    assert [shade % 2 for shade in shades(val)] == list(val.labels) == [0, 1]


def plain(**columns: list[object]) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns)


def test_numbers_without_names_keep_their_order(tmp_path: Path) -> None:
    files = [rows([0]).cast_column("photo", datasets.Image(decode=False))[0]["photo"]["bytes"]] * 6
    plain(scan=files, grade=[10, 2, 2, 10, 7, 7]).to_parquet(tmp_path / "scans.parquet")
    train = opened(tmp_path / "scans.parquet", "train", image_column="scan", label_column="grade")
    assert train.classes == ("2", "7", "10")
    assert sorted(train.labels) == [0, 1, 2]
    assert np.asarray(train.image(0)).shape == (4, 6, 3)


def test_damaged_and_null_images_are_named(tmp_path: Path) -> None:
    dataset = plain(photo=[{"bytes": b"junk", "path": None}, None, None], animal=[0, 1, 1])
    features = datasets.Features({"photo": datasets.Image(), "animal": datasets.ClassLabel(names=["cat", "dog"])})
    datasets.DatasetDict({"test": dataset.cast(features)}).save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved", "val")
    for index in range(3):
        with pytest.raises(UnreadableImage, match=rf"saved, val, row {index}: "):
            source.image(index)


@pytest.mark.parametrize(
    ("columns", "options", "named"),
    [
        (["photo"], {}, "label_column"),
        (["animal"], {}, "image_column"),
        (["photo", "animal"], {"label_column": "species"}, r"no column 'species'.*photo, animal"),
    ],
)
def test_columns_that_cannot_be_found(tmp_path: Path, columns: list[str], options: dict[str, str], named: str) -> None:
    rows([0, 1]).select_columns(columns).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=named):
        opened(tmp_path / "saved", "train", **options)


def test_one_of_several_label_columns_must_be_chosen(tmp_path: Path) -> None:
    twice = rows([0, 1, 0, 1])
    twice = twice.add_column("fine", [0, 1, 2, 3]).cast_column("fine", datasets.ClassLabel(names=list("abcd")))
    twice.save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"set label_column to one of animal, fine"):
        opened(tmp_path / "saved", "train")
    assert opened(tmp_path / "saved", "train", label_column="animal").classes == ("cat", "dog")


def test_disagreeing_parts_are_refused(tmp_path: Path) -> None:
    datasets.DatasetDict(train=rows([0, 1]), test=rows([0, 1], ("cat", "cow"))).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="differ in cow, dog"):
        opened(tmp_path / "saved", "train")


def test_hidden_labels_are_refused(tmp_path: Path) -> None:
    datasets.DatasetDict(train=rows([0, 1]), test=rows([-1, -1])).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="label -1, outside its 2 classes"):
        opened(tmp_path / "saved", "val")


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.parquet") as caught:
        opened(tmp_path / "broken.parquet", "train")
    assert "\n" not in str(caught.value)


def test_unknown_hub_dataset_is_named() -> None:
    with pytest.raises(ValueError, match="hf:nobody/nothing"):
        opened("hf:nobody/nothing", "train")


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    datasets.DatasetDict(train=rows([0, None, 1])).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"saved, train has no label in row 1"):
        opened(tmp_path / "saved", "train")
    table = plain(photo=[None] * 3, grade=[1, None, 2]).cast_column("photo", datasets.Image())
    table.to_parquet(tmp_path / "scans.parquet")
    with pytest.raises(ValueError, match="no label in row 1"):
        opened(tmp_path / "scans.parquet", "train", label_column="grade")


def test_splits_of_other_names_are_refused(tmp_path: Path) -> None:
    datasets.DatasetDict(first=rows([0, 1]), second=rows([0, 1])).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="the splits first, second, none of which is train or val"):
        opened(tmp_path / "saved", "train")


def test_a_class_must_occur_to_count(tmp_path: Path) -> None:
    rows([1, 1, 1]).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="single class 'dog'"):
        opened(tmp_path / "saved", "train")


def test_a_stray_table_among_class_folders_is_named(class_folders: Callable[..., Path]) -> None:
    root = class_folders()
    (root / "metadata.csv").write_text("file_name,breed\n")
    with pytest.raises(ValueError, match=r"read as huggingface because of metadata\.csv; --data\.format folder reads"):
        opened(root, "train")
