import pytest
from PIL import Image

from swinv2.cli.sheet import CLASSES, COLUMNS, sheet


@pytest.mark.parametrize("images", [1, COLUMNS, COLUMNS + 1])
def test_every_image_has_its_likeliest_classes_below(images: int) -> None:
    ranking = [("cat", 0.5), ("dog", 0.25), ("owl", 0.125), ("fox", 0.0625)]
    axes = sheet([(Image.new("RGB", (20, 10 + number)), ranking) for number in range(images)]).axes
    assert len(axes) == images
    assert [each.images[0].get_array().shape[0] for each in axes] == [10 + number for number in range(images)]
    assert axes[-1].get_xlabel().splitlines() == ["cat 50.0%", "dog 25.0%", "owl 12.5%"][:CLASSES]


def test_names_are_drawn_as_they_are() -> None:
    figure = sheet([(Image.new("L", (4, 4)), [("$a$ \udcff", 1.0)])])
    figure.canvas.draw()
    assert figure.axes[0].get_xlabel() == "$a$ \\udcff 100.0%"
    assert not figure.axes[0].xaxis.label.get_parse_math()
