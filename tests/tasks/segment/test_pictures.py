"""Label maps and overlays, read back pixel by pixel."""

from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.sources.label_maps import read_label_map
from swinv2.tasks.segment.pictures import INK, ROW, legend, overlay, palette, picture, save_label_map


@pytest.mark.parametrize(("classes", "apart"), [(11, 80), (19, 70), (150, 20)])
def test_colours_differ(classes, apart):
    colours = np.array(palette(classes))
    assert colours.min() >= 0
    assert colours.max() <= 255
    assert min(np.linalg.norm(a - b) for a, b in combinations(colours, 2)) > apart
    assert palette(classes)[:5] == palette(5)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_label_maps_have_indices_and_colours(kind, tmp_path):
    colours = palette(3)
    save_label_map(kind([[0, 1, 2], [2, 2, 255]]), tmp_path / "map.png", colours)
    assert read_label_map(str(tmp_path / "map.png")).tolist() == [[0, 1, 2], [2, 2, 255]]
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        shown = image.convert("RGB")
    assert [shown.getpixel((x, 0)) for x in range(3)] == list(colours)


def test_label_maps_of_a_dataset_whose_first_class_is_1(tmp_path):
    colours = palette(3)
    save_label_map(np.array([[0, 2]]), tmp_path / "map.png", colours, reduce_zero_label=True)
    assert read_label_map(str(tmp_path / "map.png")).tolist() == [[1, 3]]
    with Image.open(tmp_path / "map.png") as image:
        assert [image.convert("RGB").getpixel((x, 0)) for x in range(2)] == [colours[0], colours[2]]


@pytest.mark.parametrize(("classes", "mode"), [(256, "P"), (257, "I;16")])
def test_many_classes_take_16_bits(classes, mode, tmp_path):
    labels = np.arange(classes).reshape(1, -1)
    save_label_map(labels, tmp_path / "map.png", palette(classes))
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == mode
    assert np.array_equal(read_label_map(str(tmp_path / "map.png")), labels)


def photo(height=40, width=60):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_overlay_mixes_colours_and_leaves_what_has_no_class():
    image, colours = photo(2, 3), [(200, 0, 0), (0, 100, 50)]
    pixels, found = np.array(image), np.array(overlay(image, torch.tensor([[0, 1, 255], [1, -1, 2]]), colours, 0.5))
    for y, x, colour in ((0, 0, colours[0]), (0, 1, colours[1]), (1, 0, colours[1])):
        assert np.abs(found[y, x] - (pixels[y, x] / 2 + np.array(colour) / 2)).max() <= 0.5
    for y, x in ((0, 2), (1, 1), (1, 2)):
        assert np.array_equal(found[y, x], pixels[y, x])


def test_overlay_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3x2 pixels do not lie on an image of 60x40"):
        overlay(photo(), np.zeros((2, 3)), palette(2))


def test_picture_shows_image_maps_and_legend():
    image, labels = photo(120, 60), np.zeros((120, 60), dtype=np.int64)
    labels[:30] = 2
    labels[100:] = 255
    sheet = picture(image, {"label map": labels, "prediction": np.full_like(labels, 2)}, ("road", "sky", "tree"))
    assert sheet.height >= 120 + ROW
    shown = np.array(sheet)
    assert np.array_equal(shown[ROW : ROW + 120, :60], np.array(image))
    assert np.array_equal(shown[ROW : ROW + 120, 68:128], np.array(overlay(image, labels, palette(3))))
    column = shown[:, 3 * 68 :].reshape(-1, 3)
    road, sky, tree = (bool((column == colour).all(1).any()) for colour in palette(3))
    assert (road, sky, tree) == (True, False, True)
    assert (column == INK).all(1).sum() > 20


def test_legend_of_many_classes_fits():
    counts = np.arange(1, 41)
    names = [f"class {number}" for number in range(40)]
    column = legend(names, palette(40), [counts], height=10 * ROW)
    assert column.height == 10 * ROW
    pixels = np.array(column).reshape(-1, 3)
    shown = [bool((pixels == colour).all(1).any()) for colour in palette(40)]
    assert shown == [False] * 31 + [True] * 9


def test_any_name_can_be_drawn():
    picture(photo(), {"prediction": np.zeros((40, 60), dtype=np.int64)}, ("Straße 道路 $x_1$",))
