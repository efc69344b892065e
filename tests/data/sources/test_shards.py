from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swinv2.data.options import DataOptions, Split
from swinv2.data.sources import ImageSource, open_split


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def samples(labels: list[int], first: int = 0) -> dict[str, bytes]:
    """Sample number n is of shade n."""
    members: dict[str, bytes] = {}
    for number, label in enumerate(labels, first):
        members |= {f"{number:03d}.png": png(number), f"{number:03d}.cls": str(label).encode()}
    return members


def opened(path: Path | str, split: Split = "train", **options: object) -> ImageSource:
    return open_split(DataOptions(path=str(path), **options), split)


def shades(source: ImageSource) -> list[int]:
    return [source.image(index).getpixel((0, 0))[0] for index in range(len(source))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tar(tmp_path / "train-0.tar", samples([0, 1, 2]))
    write_tar(tmp_path / "train-1.tar", samples([2, 1], first=3))
    write_tar(tmp_path / "val-0.tar", samples([1, 0, 2], first=5))
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n")
    return tmp_path


def test_shards_are_read_by_split(folder: Path) -> None:
    train, val = opened(folder, "train"), opened(folder, "val")
    assert train.classes == val.classes == ("cat", "dog", "owl")
    assert (list(train.labels), shades(train)) == ([0, 1, 2, 2, 1], [0, 1, 2, 3, 4])
    assert (list(val.labels), shades(val)) == ([1, 0, 2], [5, 6, 7])
    assert train.name(3) == f"{folder}/train-1.tar/003"


def test_pattern_leaves_shards_out(folder: Path) -> None:
    assert shades(opened(f"{folder}/{{train-1,val-0}}.tar")) == [3, 4]
    assert shades(opened(folder / "val-0.tar", "val")) == [5, 6, 7]


def test_without_validation_shards_the_samples_are_divided(tmp_path: Path) -> None:
    write_tar(tmp_path / "data.tar", samples([0] * 10 + [1] * 5))
    train, val = opened(tmp_path, "train"), opened(tmp_path, "val")
    assert Counter(val.labels) == {0: 2, 1: 1}
    assert sorted(shades(train) + shades(val)) == list(range(15))


def test_classes_are_numbers_where_no_file_names_them(folder: Path) -> None:
    (folder / "classes.txt").unlink()
    write_tar(folder / "val-0.tar", samples([4]))
    assert opened(folder, "train").classes == opened(folder, "val").classes == ("0", "1", "2", "3", "4")


def test_members_follow_webdatasets_rules(tmp_path: Path) -> None:
    members = {
        "./a/0.json": b'{"label": 1, "caption": "a dog"}',
        "./a/0.JPG": png(7),
        "./a/0.seg.png": png(99),
        "./a/0.txt": b"a dog",
        "./b/0.webp": png(8),
        "./b/0.cls": b" 0\n",
        "._0.png": b"macOS",
        "README": b"hello",
    }
    write_tar(tmp_path / "val.tar", members)
    source = opened(tmp_path, "val")
    assert (list(source.labels), shades(source)) == ([1, 0], [7, 8])


def test_long_names_and_pax_headers_keep_offsets_right(tmp_path: Path) -> None:
    long = "deep/" * 40
    write_tar(tmp_path / "val.tar", {f"{long}{name}": data for name, data in samples([0, 1, 0]).items()})
    assert shades(opened(tmp_path, "val")) == [0, 1, 2]


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"0.png": png(0)}, r"train\.tar has no label for 0"),
        (samples([0, 1]) | {"7.jpg": b""}, r"train\.tar has no label for 7"),
        ({"0.cls": b"1"}, r"train\.tar has no images"),
        ({}, r"train\.tar has no images"),
        ({"0.png": png(0), "0.cls": b"cat"}, r"train\.tar/0\.cls holds no class number"),
        ({"0.png": png(0), "0.json": b'{"caption": "a cat"}'}, r"0\.json holds no class number"),
        ({"0.png": png(0), "0.json": b"{"}, r"0\.json holds no class number"),
        ({"0.png": png(0), "0.json": b'{"label": null}'}, r"0\.json holds no class number"),
        (samples([0, 3]), r"label 3, outside its 3 classes"),
        (samples([0, -1]), r"label -1, outside its 3 classes"),
    ],
)
def test_wrong_samples_are_named(tmp_path: Path, members: dict[str, bytes], named: str) -> None:
    write_tar(tmp_path / "train.tar", members)
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n")
    with pytest.raises(ValueError, match=named):
        opened(tmp_path)


def test_damaged_shard_is_named(folder: Path) -> None:
    shard = folder / "train-1.tar"
    whole = shard.read_bytes()
    cut = [whole[:size] for size in (0, 300, 512, 700, 1024, 1600, 2048, 2100)]
    for content in (*cut, b"junk" * 1000, whole[:2048] + b"junk" * 128 + whole[2560:]):
        shard.write_bytes(content)
        with pytest.raises(ValueError, match=r"train-1\.tar"):
            opened(folder)


@pytest.mark.realdata
def test_cifar10(real_data: Path) -> None:
    train, val = opened(real_data / "cifar10", "train"), opened(real_data / "cifar10", "val")
    assert (len(train), len(val)) == (25000, 5000)
    assert set(Counter(train.labels).values()) == {2500}
    assert train.classes[0] == "airplane"
    with tarfile.open(real_data / "cifar10" / "train-0003.tar") as tar:
        last = tar.getmembers()[-2:]
        stored = next(tar.extractfile(member) for member in last if member.name.endswith(".jpg"))
        expected = np.asarray(Image.open(stored))
    assert np.array_equal(np.asarray(train.image(19999)), expected)


def test_samples_in_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    members = samples([0, 1]) | {"7.bmp": png(7), "7.cls": b"1", "000.tif": b"of a sample that has a PNG"}
    write_tar(tmp_path / "val.tar", members)
    source = opened(tmp_path, "val")
    assert len(source) == 2
    assert source.skipped == (f"{tmp_path}/val.tar/7.bmp: not read from shards; make it a JPEG, PNG or WebP.",)


def test_a_label_far_above_the_samples_needs_names(tmp_path: Path) -> None:
    write_tar(tmp_path / "val.tar", samples([0, 10**9]))
    with pytest.raises(ValueError, match=r"label 1000000000 among 2 samples: name the classes in classes\.txt"):
        opened(tmp_path, "val")
