"""Datasets of images with label maps: layouts, kinds of files, and what is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swinv2.data.image import UnreadableImage
from swinv2.data.options import Choice
from swinv2.data.segmentation_options import LabelMapLayout, SegmentationDataOptions
from swinv2.data.sources.label_maps import LabelMaps, open_label_maps, read_label_map, subset

CLASSES = ("sky", "road", "tree")


def write_pair(image: Path, label: Path, values: Sequence[Sequence[int]] = ((0, 1, 2), (255, 1, 0))) -> None:
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    map_ = np.array(values, dtype=np.uint8)
    Image.new("RGB", map_.shape[::-1], (10, 20, 30)).save(image)
    Image.fromarray(map_).save(label)


def write_part(images: Path, labels: Path, count: int, **kwargs: Any) -> None:
    for number in range(count):
        write_pair(images / f"{number}.png", labels / f"{number}.png", **kwargs)


def write_classes(folder: Path, classes: Sequence[str] = CLASSES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(classes), encoding="utf-8")


def opened(root: Path, split: Choice = "train", **options: Any) -> LabelMaps:
    layout = {field.name for field in fields(LabelMapLayout)} & options.keys()
    shared = {name: value for name, value in options.items() if name not in layout}
    of_layout = LabelMapLayout(**{name: options[name] for name in layout})
    return open_label_maps(SegmentationDataOptions(path=str(root), layout=of_layout, **shared), split)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    write_part(tmp_path / "images/train", tmp_path / "labels/train", 3)
    write_part(tmp_path / "images/val", tmp_path / "labels/val", 2)
    write_classes(tmp_path)
    return tmp_path


LAYOUTS = {
    "plain": ("images/train", "labels/train", "images/val", "labels/val"),
    "ADE20K": ("images/training", "annotations/training", "images/validation", "annotations/validation"),
    "camvid": ("train/images", "train/masks", "val/images", "val/masks"),
    "mmsegmentation": ("img_dir/train", "ann_dir/train", "img_dir/val", "ann_dir/val"),
    "capitals": ("Images/Train", "Labels/Train", "Images/Test", "Labels/Test"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(layout: str, tmp_path: Path) -> None:
    train, train_maps, val, val_maps = (tmp_path / folder for folder in LAYOUTS[layout])
    write_part(train, train_maps, 3)
    write_part(val, val_maps, 2)
    write_classes(tmp_path)
    for split, images, maps, count in (("train", train, train_maps, 3), ("val", val, val_maps, 2)):
        source = opened(tmp_path, split, reduce_zero_label=False)
        assert [Path(path) for path in source.images] == [images / f"{number}.png" for number in range(count)]
        assert [Path(path) for path in source.maps] == [maps / f"{number}.png" for number in range(count)]
        assert source.classes == CLASSES
        assert source.skipped == ()
    assert len(opened(tmp_path, "all", reduce_zero_label=False)) == 5


def test_a_sample_is_the_image_and_its_indices(plain: Path) -> None:
    image, labels = opened(plain).read(0)
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (10, 20, 30)
    assert labels.tolist() == [[0, 1, 2], [255, 1, 0]]
    assert opened(plain).read(0, channels=1)[0].mode == "L"


def test_zero_is_reduced_in_ade20ks_layout(tmp_path: Path) -> None:
    write_part(tmp_path / "images/training", tmp_path / "annotations/training", 2, values=((0, 1, 2), (3, 255, 1)))
    lines = ["Idx\tRatio\tTrain\tVal\tName", "1\t0.2\t9\t1\tsky", "2\t0.1\t9\t1\tbuilding, edifice", "3\t0\t1\t1\ttree"]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(lines))
    source = opened(tmp_path)
    assert source.classes == ("sky", "building, edifice", "tree")
    assert source.label_map(0).tolist() == [[255, 0, 1], [2, 255, 0]]
    assert source.reduce_zero_label
    kept = opened(tmp_path, reduce_zero_label=False, classes=("none", *CLASSES))
    assert kept.label_map(0).tolist() == [[0, 1, 2], [3, 255, 1]]


def test_zero_is_kept_elsewhere_unless_told(plain: Path) -> None:
    assert not opened(plain).reduce_zero_label
    assert opened(plain, reduce_zero_label=True).label_map(0).tolist() == [[255, 0, 1], [255, 0, 255]]


def test_the_last_class_is_left_out_if_it_is_ignored(plain: Path) -> None:
    source = opened(plain, ignore_index=3, classes=(*CLASSES, "unlabelled"))
    assert source.classes == CLASSES
    assert source.ignore_index == 3


def test_without_validation_part_some_are_held_out(tmp_path: Path) -> None:
    write_part(tmp_path / "images", tmp_path / "labels", 10)
    write_classes(tmp_path)
    train, val = opened(tmp_path), opened(tmp_path, "val")
    assert (len(train), len(val)) == (8, 2)
    assert len({*train.images, *val.images}) == 10
    assert [Path(image).name for image in val.images] == [Path(label).name for label in val.maps]
    assert opened(tmp_path, "val").images == val.images
    assert opened(tmp_path, "val", split_seed=3).images != val.images


def test_secret_test_labels_do_not_matter(plain: Path) -> None:
    write_pair(plain / "images/test/9.png", plain / "unused.png")
    assert len(opened(plain, "val")) == 2


def test_subset_keeps_pairs_together(plain: Path) -> None:
    source = subset(opened(plain), [2, 0])
    assert [Path(path).stem for path in source.images] == [Path(path).stem for path in source.maps] == ["2", "0"]


CITY = ("leftImg8bit/{}/aachen/a_leftImg8bit.png", "gtFine/{}/aachen/a_gtFine_labelTrainIds.png")
SUFFIXES = {"image_suffix": "_leftImg8bit", "label_suffix": "_gtFine_labelTrainIds"}


@pytest.fixture
def city(tmp_path: Path) -> Path:
    for part in ("train", "val"):
        image, label = (tmp_path / path.format(part) for path in CITY)
        write_pair(image, label)
        label.with_name("a_gtFine_color.png").write_bytes(label.read_bytes())
    write_classes(tmp_path)
    return tmp_path


def test_suffixes_tell_cityscapes_files_apart(city: Path) -> None:
    source = opened(city, "val", **SUFFIXES)
    assert source.maps == (str(city / CITY[1].format("val")),)
    assert source.skipped == ()


@pytest.mark.parametrize(
    "line",
    [
        "train/aachen/a",
        "train/aachen/a_leftImg8bit.png",
        "leftImg8bit/train/aachen/a_leftImg8bit.png",
        " ".join(path.format("train") for path in CITY),
        "\t".join(path.format("train") for path in CITY),
        ", ".join(path.format("train") for path in CITY),
    ],
)
def test_lists_name_the_images_of_a_split(city: Path, line: str) -> None:
    (city / "mine.txt").write_text(f"\n{line}\n")
    source = opened(city, train_list="mine.txt", val_list="mine.txt", **SUFFIXES)
    assert [Path(path) for path in (*source.images, *source.maps)] == [city / path.format("train") for path in CITY]


def test_a_list_alone_is_divided(plain: Path) -> None:
    write_part(plain / "JPEGImages", plain / "SegmentationClass", 5)
    (plain / "train.txt").write_text("\n".join(f"JPEGImages/{n}.png SegmentationClass/{n}.png" for n in range(5)))
    assert (len(opened(plain, train_list="train.txt")), len(opened(plain, "val", train_list="train.txt"))) == (4, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train/0\nnowhere/1\n", r"train.txt, line 2: no images .* called 'nowhere/1'"),
        ("0\n", r"line 1: 2 images .* called '0'.*with its folder"),
        ("a b c\n", "line 1 has 3 paths.*tab"),
        ("\n", "names no image.*empty"),
        ("images/train/0.png labels/train/x.png", "names no image with a label map.*no label map at"),
    ],
)
def test_wrong_lists_are_refused(plain: Path, content: str, message: str) -> None:
    (plain / "train.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        opened(plain, train_list="train.txt")


def test_a_missing_list_and_one_that_is_no_text_are_refused(plain: Path) -> None:
    with pytest.raises(ValueError, match=r"no list .*train\.txt"):
        opened(plain, train_list="train.txt")
    with pytest.raises(ValueError, match=r"0\.png is no UTF-8 text"):
        opened(plain, train_list="images/train/0.png")


def save(path: Path, values: Any, mode: str) -> None:
    image = Image.fromarray(np.array(values, dtype=np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image = image.convert("P")
        image.putpalette([7 * level % 256 for level in range(768)])
    (image if mode in ("P", "I;16") else image.convert(mode)).save(path)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_values_are_read_as_they_are_stored(mode: str, extension: str, tmp_path: Path) -> None:
    values = [[0, 1, 2], [700 if mode == "I;16" else 200, 1, 0]]
    save(tmp_path / f"map.{extension}", values, mode)
    labels = read_label_map(str(tmp_path / f"map.{extension}"))
    assert labels.dtype == np.int32
    assert labels.tolist() == values


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour_type", [0, 3], ids=["grey", "palette"])
def test_few_bits_are_not_spread(bits: int, colour_type: int, tmp_path: Path) -> None:
    """Optimisers store few classes in few bits; Pillow scales grey ones to 255."""
    values = np.arange(16).reshape(2, 8) % 2**bits

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in values:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        rows += b"\0" + int(digits, 2).to_bytes(bits, "big")
    colours = chunk(b"PLTE", bytes(range(3 * 2**bits))) if colour_type else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 2, bits, colour_type, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + colours + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "map.png").write_bytes(content)
    assert read_label_map(str(tmp_path / "map.png")).tolist() == values.tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_pictures_are_no_label_maps(mode: str, tmp_path: Path) -> None:
    save(tmp_path / "map.png", [[0, 1]], mode)
    with pytest.raises(ValueError, match=rf"map\.png is a colour picture \({mode}\).*index of its class"):
        read_label_map(str(tmp_path / "map.png"))


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "map.tif")
    with pytest.raises(ValueError, match=r"map\.tif has fractions"):
        read_label_map(str(tmp_path / "map.tif"))


def test_a_damaged_label_map_is_unreadable(plain: Path) -> None:
    path = plain / "labels/train/1.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UnreadableImage, match=rf"{path}: .*repair or remove"):
        opened(plain).read(1)
    path.unlink()
    assert len(opened(plain)) == 2


def test_a_label_map_of_another_size_is_refused(plain: Path) -> None:
    Image.new("L", (3, 4)).save(plain / "labels/train/1.png")
    with pytest.raises(ValueError, match=r"labels/train/1.png is 3x4 pixels, but its image .*images/train/1.png 3x2"):
        opened(plain).read(1)


def test_a_rotated_photo_is_compared_as_it_is_shown(plain: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 3)).save(plain / "images/train/1.png", exif=exif)
    assert opened(plain).read(1)[0].size == (3, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": CLASSES[:2]}, r"labels/val/0.png has the value 2, but the 2 classes have the values 0 to 1"),
        ({"ignore_index": 250}, "has the value 255, .*250 is ignored.*change layout.ignore_index"),
        ({"reduce_zero_label": True, "classes": ("sky",)}, "the value 2, .* 1 to 1, and 0 and 255 is ignored"),
    ],
)
def test_values_outside_the_classes_are_refused(plain: Path, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        opened(plain, "val", **options).read(0)
    assert not isinstance(caught.value, UnreadableImage)


def test_what_has_no_partner_is_listed_and_stops_where_that_is_wished(plain: Path) -> None:
    (plain / "labels/train/0.png").unlink()
    (plain / "images/train/2.png").unlink()
    (plain / "images/train/notes.txt").write_text("x")
    source = opened(plain)
    assert [Path(image).name for image in source.images] == ["1.png"]
    assert [line.split(": ")[1].split(";")[0] for line in source.skipped] == [
        "not an image by its extension",
        f"no label map at {plain / 'labels/train'}",
        "a label map without image",
    ]
    with pytest.raises(UnreadableImage, match=r"notes\.txt"):
        opened(plain, strict=True)


@pytest.mark.parametrize("extension", [".jpg", ".pgm"])
def test_no_image_with_a_label_map_is_refused(plain: Path, extension: str) -> None:
    """JPEG changes labels; of PGM, Pillow reads 1 as 128 where the largest value that the file allows is 2."""
    for path in (plain / "labels/train").iterdir():
        path.rename(path.with_suffix(extension))
    with pytest.raises(ValueError, match=r"no image of .*images/train has a label map in .*labels/train.*PNG"):
        opened(plain)


def test_a_listed_label_map_that_may_not_keep_labels_is_refused(plain: Path) -> None:
    (plain / "labels/train/0.pgm").write_bytes(b"P5 2 1 2\n\x01\x02")
    (plain / "train.txt").write_text("images/train/0.png labels/train/0.pgm")
    with pytest.raises(ValueError, match=r"train\.txt, line 1: .*0\.pgm may not keep labels .*: save .* as PNG"):
        opened(plain, train_list="train.txt")


def test_two_label_maps_of_one_image_are_refused(plain: Path) -> None:
    save(plain / "labels/train/0.tif", [[0]], "L")
    with pytest.raises(ValueError, match=r"0\.png and .*0\.tif are label maps of one image"):
        opened(plain)


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (("sky", "road", "sky"), {}, "names 'sky' twice"),
        ((), {}, "is empty"),
        (("sky",), {}, "single class 'sky'"),
        (CLASSES, {"ignore_index": 1}, "ignore_index 1 is the value of a class.*0 to 2"),
        (CLASSES, {"ignore_index": 0}, "set layout.reduce_zero_label"),
        (CLASSES, {"ignore_index": 3, "reduce_zero_label": True}, "ignore_index 3 is the value of a class.*1 to 3"),
        (CLASSES, {"classes": "nowhere.txt"}, "no file nowhere.txt"),
    ],
)
def test_wrong_class_lists_are_refused(plain: Path, classes: Sequence[str], options: Any, message: str) -> None:
    write_classes(plain, classes)
    with pytest.raises(ValueError, match=message):
        opened(plain, **options)


def test_classes_of_the_parts_must_agree(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_part(tmp_path / part / "images", tmp_path / part / "labels", 1)
        write_classes(tmp_path / part)
    assert opened(tmp_path).classes == CLASSES
    write_classes(tmp_path / "val", ("sky", "road", "bush"))
    for split in ("train", "val"):
        with pytest.raises(ValueError, match="differ in bush, tree"):
            opened(tmp_path, split)  # type: ignore[arg-type]
    assert opened(tmp_path, classes=CLASSES).classes == CLASSES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: root / "nowhere", "is not a folder"),
        (lambda root: root / "images", "no folders of images and label maps.*images/train"),
        (lambda root: (root / "classes.txt").unlink() or root, "no classes.txt"),
        (lambda root: (root / "labels/train").rename(root / "labels/x") and root, "validation part"),
    ],
)
def test_wrong_folders_are_refused(plain: Path, change: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(change(plain))


def test_no_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no data\.path"):
        open_label_maps(SegmentationDataOptions(), "train")


@pytest.mark.realdata
def test_camvid(real_data: Path) -> None:
    train, val = (opened(real_data / "camvid", split, ignore_index=11, strict=True) for split in ("train", "val"))
    assert (len(train), len(val)) == (367, 101)
    assert len(train.classes) == 11
    assert train.classes == val.classes
    assert train.classes[-1] == "cyclist"
    image, labels = val.read(0)
    assert image.size == (480, 360)
    assert labels.shape == (360, 480)
    assert set(np.unique(labels)) <= set(range(12))
