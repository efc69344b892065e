"""How a photo becomes a model's input: plain data that travels in the weights file.

No torch here; `swinv2.data.transforms.eval_transform` turns it into code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, centre crop and normalisation of an image before the model sees it.

    Args:
        size: Height and width of the model's input, in pixels.
        mean: Mean of each channel, in units of [0, 1] pixels; its length is the number of channels.
        std: Standard deviation of each channel, in the same units.
        crop_fraction: Share of the resized image that the centre crop keeps along its tighter side: the image
            is resized, keeping its aspect, until it just covers size / crop_fraction.
        interpolation: nearest, bilinear, bicubic or lanczos.
    """

    size: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_fraction: float = 1.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"image size {self.size} is not a height and a width: give two positive numbers.")
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"mean {self.mean} and std {self.std} differ in length: give one of each a channel.")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} has a value that is not positive: give the pixels' deviation.")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction {self.crop_fraction} is outside (0, 1]: 1 keeps the whole image.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"unknown interpolation {self.interpolation!r}: use one of {', '.join(INTERPOLATIONS)}.")

    @property
    def channels(self) -> int:
        """How many channels the input has: 1 gray, 3 RGB, 4 RGBA."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON or YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Build it from `to_dict`'s result, also after a round trip through JSON, which turns tuples to lists."""
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown preprocessing fields {', '.join(unknown)}: update swinv2 or remove them.")
        values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in data.items()}
        return cls(**values)
