from __future__ import annotations

from pathlib import Path

import pytest

from swinv2.data.sources.files import expand, find_files, group_by_part


@pytest.mark.parametrize(
    ("pattern", "expanded"),
    [
        ("plain.tar", ["plain.tar"]),
        ("a{8..11}.tar", ["a8.tar", "a9.tar", "a10.tar", "a11.tar"]),
        ("a-{008..010}", ["a-008", "a-009", "a-010"]),
        ("{train,val}-{0..1}", ["train-0", "train-1", "val-0", "val-1"]),
    ],
)
def test_braces_expand_as_in_the_shell(pattern: str, expanded: list[str]) -> None:
    assert expand(pattern) == expanded


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards [old]"
    folder.mkdir()
    for name in ("train-0.tar", "train-1.tar", "val-0.tar", "notes.txt"):
        (folder / name).touch()
    return folder


def test_folder_and_file_names_are_no_patterns(shards: Path) -> None:
    assert [path.name for path in find_files(str(shards), "*.tar")] == ["train-0.tar", "train-1.tar", "val-0.tar"]
    assert find_files(str(shards / "val-0.tar"), "*.tar") == [shards / "val-0.tar"]


def test_patterns_name_files(shards: Path) -> None:
    plain = shards.rename(shards.parent / "plain")
    assert [path.name for path in find_files(f"{plain}/train-{{0..1}}.tar")] == ["train-0.tar", "train-1.tar"]
    assert [path.name for path in find_files(f"{plain}/*-0.tar")] == ["train-0.tar", "val-0.tar"]
    with pytest.raises(ValueError, match=r"train-2\.tar"):
        find_files(f"{plain}/train-{{0..2}}.tar")


def test_folder_without_such_files_is_refused(shards: Path) -> None:
    with pytest.raises(ValueError, match=r"has no \*\.parquet or \*\.arrow file"):
        find_files(str(shards), "*.parquet", "*.arrow")


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["train-0", "train-1", "val-0"], {"train": ["train-0", "train-1"], "val": ["val-0"]}),
        (["TEST_00", "Train_00"], {"test": ["TEST_00"], "train": ["Train_00"]}),
        (["imagenet1k-train-0", "imagenet1k-validation-0"],
         {"train": ["imagenet1k-train-0"], "validation": ["imagenet1k-validation-0"]}),
        (["training_0", "testing_0"], {"training": ["training_0"], "testing": ["testing_0"]}),
        (["trainer-0", "evaluate-0"], {"train": ["trainer-0", "evaluate-0"]}),
    ],
)  # fmt: skip
def test_names_tell_the_part(names: list[str], parts: dict[str, list[str]]) -> None:
    grouped = group_by_part(Path(f"{name}.tar") for name in names)
    assert {part: [path.stem for path in paths] for part, paths in grouped.items()} == parts


def test_file_of_no_part_beside_others_is_named() -> None:
    with pytest.raises(ValueError, match=r"extra\.tar is part of no split"):
        group_by_part([Path("train-0.tar"), Path("extra.tar")])
