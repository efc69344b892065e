from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swinv2.data.image import UnreadableImage, left_out, read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def halves(mode: str) -> Image.Image:
    """Black at the left, white at the right."""
    image = Image.new("RGB", (8, 4))
    image.paste((255, 255, 255), (4, 0, 8, 4))
    return image.convert(mode)


def sixteen_bit(values: list[int], mode: str = "I;16") -> Image.Image:
    dtype = np.uint16 if mode == "I;16" else np.int32
    return Image.fromarray(np.array([values], dtype=dtype))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *(("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGB", "JPEG"), ("RGBA", "WEBP")),
        *(("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG")),
    ],
)
def test_every_mode_is_shown(mode: str, form: str, channels: int) -> None:
    image = read_image(encoded(halves(mode), form), channels)
    assert image.mode == {1: "L", 3: "RGB"}[channels]
    pixels = np.asarray(image).astype(int)
    assert pixels[:, :3].max() <= 3
    assert pixels[:, 5:].min() >= 252


@pytest.mark.parametrize(("mode", "form"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF")])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_is_scaled_not_clipped(mode: str, form: str, channels: int) -> None:
    image = read_image(encoded(sixteen_bit([0, 256, 257 * 100, 65535], mode), form), channels)
    assert np.asarray(image).reshape(4, channels)[:, 0].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize("values", [[0, 65536], [-1, 5]])
def test_values_beyond_16_bits_are_refused(values: list[int]) -> None:
    with pytest.raises(UnreadableImage, match="16 bits"):
        read_image(encoded(sixteen_bit(values, "I"), "TIFF"))


def test_floating_point_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="floating-point"):
        read_image(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_rotation_is_applied(orientation: int) -> None:
    """Each stored picture is the inverse of its orientation's rotation, so all are shown alike."""
    upright = Image.new("RGB", (6, 4))
    upright.paste(RED, (0, 0, 3, 2))
    undo = [None, None, *(Image.Transpose(number) for number in (0, 3, 1, 5, 2, 6, 4))][orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = read_image(encoded(stored, "PNG", exif=exif))
    assert shown.size == (6, 4)
    assert np.array_equal(np.asarray(shown), np.asarray(upright))


def test_broken_exif_does_not_hide_the_image() -> None:
    assert read_image(encoded(halves("RGB"), "JPEG", exif=b"Exif\0\0not a tiff header")).size == (8, 4)


def transparent_images() -> dict[str, bytes]:
    rgba = Image.new("RGBA", (2, 1), (*RED, 0))
    rgba.putpixel((1, 0), (*BLUE, 255))
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((1, 0), 1)
    return {
        "RGBA": encoded(rgba, "PNG"),
        "P": encoded(palette, "PNG", transparency=0),
        "RGB": encoded(palette.convert("RGB"), "PNG", transparency=RED),
    }


@pytest.mark.parametrize("mode", ["RGBA", "P", "RGB"])
def test_transparency_is_shown_on_white_or_kept(mode: str) -> None:
    image = transparent_images()[mode]
    assert np.asarray(read_image(image, 3)).tolist() == [[[255, 255, 255], list(BLUE)]]
    assert np.asarray(read_image(image, 1)).tolist() == [[255, 29]]
    assert np.asarray(read_image(image, 4)).tolist() == [[[*RED, 0], [*BLUE, 255]]]


def test_fourth_channel_must_exist(tmp_path: Path) -> None:
    halves("RGB").save(tmp_path / "opaque.png")
    with pytest.raises(ValueError, match=r"opaque\.png has no transparency") as caught:
        read_image(tmp_path / "opaque.png", 4)
    assert not isinstance(caught.value, UnreadableImage)


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_other_channel_counts_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"{channels} channels: use 1 \(gray\), 3"):
        read_image(halves("RGB"), channels)


def png_bomb() -> bytes:
    """A header that claims 900 million pixels, in some hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
BROKEN = {
    "cut.jpg": encoded(NOISE, "JPEG")[:2000],
    "cut.png": encoded(NOISE, "PNG")[:2000],
    "flipped.png": encoded(NOISE, "PNG").replace(b"IDAT", b"ID\0T", 1),
    "cut.webp": encoded(NOISE, "WEBP")[:500],
    "empty.png": b"",
    "text.jpg": b"this is no image",
    "bomb.png": png_bomb(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_file_is_named_in_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: ")
    assert "\n" not in message
    assert " at 0x" not in message


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ENOMEM, errno.ESTALE])
def test_trouble_of_the_machine_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match=r"photo\.png") as caught:
        read_image("photo.png")
    assert caught.value.errno == number


def test_missing_memory_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        read_image("photo.png")


@pytest.mark.parametrize("name", ["photo.heic", "photo.HEIF"])
def test_heic_is_to_be_converted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UnreadableImage, match=r"; convert it to JPEG\.$"):
        read_image(tmp_path / name)
    assert left_out(name) == f"{name}: not an image by its extension; convert it to JPEG."


def test_missing_file_and_folder_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(UnreadableImage, match=str(path)):
            read_image(path)


def test_every_kind_of_source_gives_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    NOISE.save(path)
    with path.open("rb") as file:
        shown = [read_image(source) for source in (str(path), path, path.read_bytes(), file, NOISE)]
    assert all(np.array_equal(np.asarray(image), np.asarray(NOISE)) for image in shown)


def test_given_name_replaces_the_path() -> None:
    with pytest.raises(UnreadableImage, match=r"^train-0\.tar/7: "):
        read_image(b"junk", name="train-0.tar/7")
