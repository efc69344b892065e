"""Reading one image, whatever its file and mode, as 8-bit gray, RGB or RGBA."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .avif .bmp .gif .tif .tiff .jp2 .tga .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
OF_THE_FILE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG,
}  # fmt: skip
"""System errors that say something of one file; others (too many open files, a lost disk) say it of the machine."""

Readable = str | os.PathLike[str] | bytes | BinaryIO | Image.Image


class UnreadableImage(ValueError):  # noqa: N818 (it says what was found)
    """A file that is not an image, or a damaged one; the message is "NAME: reason"."""


def read_image(source: Readable, channels: int = 3, name: str | None = None) -> Image.Image:
    """Decode an image and show it in 1 (gray), 3 (RGB) or 4 (RGBA) channels of 8 bits.

    The camera's rotation (EXIF) is applied, 16-bit values are scaled, and transparency is shown on white unless
    the 4th channel keeps it.

    Args:
        source: A path, an open file, the file's bytes, or a Pillow image.
        channels: 1, 3 or 4.
        name: What to call the image in errors; by default its path.

    Raises:
        UnreadableImage: The source is missing, damaged, empty, no image, or a decompression bomb.
        ValueError: Other channel counts, or 4 channels from an image without transparency.
        OSError, MemoryError: The machine, not the file, is in trouble.
    """
    if channels not in MODES:
        raise ValueError(f"images cannot have {channels} channels: use 1 (gray), 3 (RGB) or 4 (RGBA).")
    name = name or _name(source)
    with naming(name):
        image = _decode(source)
        shown = _show(image, channels)
    if channels == 4 and not image.has_transparency_data:
        raise ValueError(f"{name} has no transparency for a 4th channel: use a model of 1 or 3 channels.")
    return shown


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Turn what decoding raises into `UnreadableImage` of this name; trouble of the machine stays what it is."""
    try:
        yield
    except Exception as error:  # Pillow's decoders raise nearly every type on a damaged file
        if isinstance(error, OSError) and error.errno and error.errno not in OF_THE_FILE:
            raise OSError(error.errno, os.strerror(error.errno), name) from error
        if isinstance(error, MemoryError):
            raise
        raise UnreadableImage(f"{name}: {_reason(error)}; {_remedy(name, 'repair or remove it')}.") from error


def is_image_name(path: str) -> bool:
    """Whether a file is an image by its extension."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def left_out(path: str) -> str:
    """What to say of a file that is no image by its extension."""
    return f"{path}: not an image by its extension; {_remedy(path, 'remove it')}."


def _decode(source: Readable) -> Image.Image:
    if isinstance(source, Image.Image):
        return ImageOps.exif_transpose(source)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return ImageOps.exif_transpose(image)


def _show(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        image = _scale_16_bit(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if channels != 4 and image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(MODES[channels])


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Map 0..65535 to 0..255; Pillow's own conversion clips at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("pixel values beyond 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _name(source: Readable) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or "image")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "empty, or not an image in a known format"
    return str(error) or type(error).__name__


def _remedy(path: str, otherwise: str) -> str:
    return "convert it to JPEG" if path.lower().endswith((".heic", ".heif")) else otherwise
