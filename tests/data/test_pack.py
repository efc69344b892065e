from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from swinv2.data.options import DataOptions, Split
from swinv2.data.pack import pack
from swinv2.data.sources import open_split

MakeFolders = Callable[..., Path]


def pixels(options: DataOptions, split: Split) -> list[tuple[str, bytes]]:
    """Class and pixels of every image, sorted."""
    source = open_split(options, split)
    return sorted((source.classes[source.labels[row]], source.image(row).tobytes()) for row in range(len(source)))


def test_shards_hold_the_same_images_in_the_same_parts(class_folders: MakeFolders, tmp_path: Path) -> None:
    folder = DataOptions(path=str(class_folders(counts={"cat": 9, "dog": 6})))
    lines = list(pack(folder, tmp_path / "shards", size=200))
    shards = DataOptions(path=str(tmp_path / "shards"))
    for split in ("train", "val"):
        assert pixels(shards, split) == pixels(folder, split)
    assert open_split(shards, "train").classes == ("cat", "dog")
    made = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert made[:2] == ["classes.txt", "train-00000.tar"]
    assert len(made) > 5
    assert [line.split(": ")[0].rsplit("/", 1)[1] for line in lines] == sorted(made[1:])
    assert len(set(open_split(shards, "train").shards())) == sum(name.startswith("train") for name in made)


def test_files_are_copied_as_they_are_and_others_become_png(class_folders: MakeFolders, tmp_path: Path) -> None:
    root = class_folders(counts={"cat": 4, "dog": 4})
    Image.new("RGB", (9, 9), "red").save(root / "cat" / "x.jpg", quality=50)
    Image.new("RGB", (9, 9), "red").save(root / "dog" / "y.bmp")
    list(pack(DataOptions(path=str(root)), tmp_path / "shards", size=10**6))
    stored = open_split(DataOptions(path=str(tmp_path / "shards")), "all")
    raw = [stored.raw(row) for row in range(len(stored))]
    assert (root / "cat" / "x.jpg").read_bytes() in raw
    assert sum(isinstance(data, bytes) and data.startswith(b"\x89PNG") for data in raw) == 9


def test_unreadable_images_are_left_out_and_named(class_folders: MakeFolders, tmp_path: Path) -> None:
    root = class_folders(counts={"cat": 4, "dog": 4})
    (root / "cat" / "0.png").write_bytes(b"")
    (root / "dog" / "notes.txt").write_text("")
    lines = list(pack(DataOptions(path=str(root)), tmp_path / "shards", size=10**6))
    assert sum("cat/0.png: empty" in line for line in lines) == 1
    assert any("notes.txt" in line for line in lines)
    assert len(open_split(DataOptions(path=str(tmp_path / "shards")), "all")) == 7


def test_the_command(class_folders: MakeFolders, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "swinv2.data.pack", "--data.path", str(class_folders()), "--out"]
    done = subprocess.run([*command, str(tmp_path / "shards")], capture_output=True, text=True, check=True)
    assert "train-00000.tar: " in done.stdout
    again = subprocess.run([*command, str(tmp_path / "shards")], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (
        2,
        f"error: {tmp_path / 'shards'} exists: choose another --out, or remove it.\n",
    )


def test_what_exists_is_left_alone(class_folders: MakeFolders, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists: choose another"):
        list(pack(DataOptions(path=str(class_folders())), tmp_path, size=10))
