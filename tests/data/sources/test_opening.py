from __future__ import annotations

from pathlib import Path

import pytest

from swinv2.data.options import DataOptions, Format
from swinv2.data.sources import open_split
from swinv2.data.sources.opening import recognise


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["cat/1.png"], "folder"),
        (["train-0.tar", "classes.txt"], "shards"),
        (["train-0.parquet"], "huggingface"),
        (["data/train-0.parquet", "README.md"], "huggingface"),
        (["dataset_dict.json"], "huggingface"),
        (["state.json", "dataset_info.json"], "huggingface"),
        (["metadata.csv", "1.png"], "huggingface"),
    ],
)
def test_folders_are_recognised(tmp_path: Path, files: list[str], layout: Format) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert recognise(str(tmp_path)) == layout


@pytest.mark.parametrize(
    ("path", "layout"),
    [("digits", "digits"), ("hf:mnist", "huggingface"), ("a/{0..3}.tar", "shards"), ("a/*.parquet", "huggingface")],
)
def test_names_are_recognised(path: str, layout: Format) -> None:
    assert recognise(path) == layout


@pytest.mark.parametrize("layout", ["auto", "folder", "shards", "huggingface"])
def test_missing_path_is_named(tmp_path: Path, layout: Format) -> None:
    with pytest.raises(ValueError, match="nothing-here"):
        open_split(DataOptions(path=str(tmp_path / "nothing-here"), format=layout), "train")


def test_single_file_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(ValueError, match=r"photo\.png"):
        open_split(DataOptions(path=str(tmp_path / "photo.png")), "train")


def test_the_path_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"there is no data\.path: .*--data\.path photos"):
        open_split(DataOptions(), "train")
