from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from swinv2.data.image import UnreadableImage
from swinv2.data.options import DataOptions
from swinv2.data.sources import ImageSource, open_split


def lay_out(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / file)
    return root


def names(source: ImageSource, root: Path) -> set[str]:
    return {Path(source.name(i)).relative_to(root).as_posix() for i in range(len(source))}


def unlabelled(root: Path, split: str, **options: bool) -> ImageSource:
    return open_split(DataOptions(path=str(root), **options), split, labelled=False)


@pytest.mark.parametrize(
    "files",
    [
        [f"{i}.png" for i in range(10)],
        [f"a/b/{i}.png" for i in range(5)] + [f"c/{i}.png" for i in range(4)] + ["9.png"],
        [f"only/{i}.png" for i in range(10)],
        [f"train/{i}.png" for i in range(5)] + [f"plane/{i}.png" for i in range(5)],
    ],
    ids=["flat", "nested", "one class", "a class called train"],
)
def test_all_images_of_a_folder_are_divided(tmp_path: Path, files: list[str]) -> None:
    lay_out(tmp_path, *files)
    training, validation = unlabelled(tmp_path, "train"), unlabelled(tmp_path, "val")
    assert (len(training), len(validation)) == (8, 2)
    assert names(training, tmp_path) | names(validation, tmp_path) == set(files)
    assert training.classes == ()


def test_named_parts_are_kept(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/1.png", "train/cat/2.png", "val/3.png")
    assert names(unlabelled(tmp_path, "train"), tmp_path) == {"train/1.png", "train/cat/2.png"}
    assert names(unlabelled(tmp_path, "val"), tmp_path) == {"val/3.png"}


def test_other_files_are_listed_or_stop(tmp_path: Path) -> None:
    lay_out(tmp_path, "1.png", "2.png")
    (tmp_path / "notes.txt").write_text("x")
    assert [Path(line.split(":")[0]).name for line in unlabelled(tmp_path, "train").skipped] == ["notes.txt"]
    with pytest.raises(UnreadableImage, match=r"notes\.txt"):
        unlabelled(tmp_path, "train", strict=True)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} has no images: check the path"):
        unlabelled(tmp_path, "train")


def test_labelled_data_serve_too() -> None:
    assert len(open_split(DataOptions(path="digits"), "train", labelled=False)) == 1437
