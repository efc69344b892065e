"""InstaBoost (Fang et al., 2019, arXiv 1908.07801), the variant without its map of likely places.

Each object of an image is moved, scaled and turned a little. The published code cuts objects out by matting and fills
the holes by inpainting; here masks are blended at their edge, and holes are filled with the colours around them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from swinv2.data.objects import areas_of, boxes_of, cut, select
from swinv2.data.sources.coco import Target
from swinv2.data.sources.semantic_maps import IGNORED

EDGE = 10
"""Pixels within which an object counts as cut by the image's edge, from which it must not come loose."""
GAIN = 0.2
"""Largest change of brightness of an image's objects; the published code has colours of its own."""


def uniform(low: float, high: float) -> float:
    """A number between two, by torch's random state."""
    return low + (high - low) * float(torch.rand(()))


@dataclass(frozen=True)
class InstaBoost:
    """Moves the objects of some images within these images; their defaults are HTC++'s.

    Args:
        probability: Share of the images.
        scale: Smallest and largest factor of an object's size.
        shift: An object moves by at most this part of its width and height: 15 for a fifteenth.
        turn: Largest angle, in degrees.
        colour: Share of these images whose objects become brighter or darker.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.8, 1.2)
    shift: float = 15.0
    turn: float = 1.0
    colour: float = 0.5

    def __call__(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        """The image and its objects, which have masks; what others now hide is no part of a mask any more.

        A semantic map is not known where an object came or went.
        """
        masks = target["masks"]
        areas = areas_of(masks)
        if float(torch.rand(())) >= self.probability or not areas.any():
            return image, target
        pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1).float()
        canvas = filled(pixels, masks.amax(0) != 0)
        owner = torch.full(masks.shape[1:], -1, dtype=torch.int32)
        gain = 1 + uniform(-GAIN, GAIN) if float(torch.rand(())) < self.colour else 1.0
        boxes = boxes_of(masks).tolist()
        for number in areas.argsort(descending=True, stable=True)[: int((areas > 0).sum())].tolist():
            window, copy, alpha = self._moved(pixels, masks[number], boxes[number])
            canvas[window] = torch.lerp(canvas[window], gain * copy, alpha)
            owner[window[1:]][alpha > 0.5] = number
        moved = (owner == torch.arange(len(masks), dtype=torch.int32)[:, None, None]).to(torch.uint8)
        drawn = canvas.round_().clamp_(0, 255).byte().permute(1, 2, 0).squeeze(2).contiguous().numpy()
        if "semantic" in target:
            stayed = (masks == moved).all(0)
            target = target | {"semantic": torch.where(stayed, target["semantic"], IGNORED)}
        target = cut(target | {"masks": moved}, image.height, image.width)
        return Image.fromarray(drawn), select(target, target["area"] > 0)

    def _moved(self, pixels: Tensor, mask: Tensor, box: list[float]) -> tuple[tuple[slice, ...], Tensor, Tensor]:
        """Where in an image [C, H, W] an object comes to lie, its colours there, and how far they cover it."""
        height, width = mask.shape
        left, top, right, bottom = map(int, box)
        factor, angle, shift = self._draw(box, height, width)
        centre = torch.tensor([(left + right) / 2, (top + bottom) / 2])
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        reach = factor * turn.abs() @ torch.tensor([right - left, bottom - top]).float() / 2 + 1
        first = (centre + shift - reach).floor().long().clamp(min=0).tolist()
        end = torch.minimum((centre + shift + reach).ceil(), torch.tensor([width, height])).long().tolist()
        x, y = (torch.arange(a, b) + 0.5 for a, b in zip(first, end, strict=True))
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # [h, w, 2] of where it comes to lie
        sources = centre + (places - centre - shift) @ turn / factor  # the inverse: rows times the matrix
        left, top, right, bottom = max(left - 1, 0), max(top - 1, 0), min(right + 1, width), min(bottom + 1, height)
        patch = torch.cat([pixels, (mask != 0)[None].float()])[:, top:bottom, left:right]
        grid = 2 * (sources - torch.tensor([left, top])) / torch.tensor([right - left, bottom - top]) - 1
        sampled = F.grid_sample(patch[None], grid[None], padding_mode="border", align_corners=False)[0]
        window = (slice(None), slice(first[1], end[1]), slice(first[0], end[0]))
        return window, sampled[:-1], sampled[-1]

    def _draw(self, box: list[float], height: int, width: int) -> tuple[float, float, Tensor]:
        """Factor, angle and shift (x, y); an object that the image's edge cuts stays at the edge."""
        left, top, right, bottom = box
        factor, angle = uniform(*self.scale), math.radians(uniform(-self.turn, self.turn))
        x = uniform(-1, 1) * (right - left) / self.shift
        y = uniform(-1, 1) * (bottom - top) / self.shift
        at_start, at_end = (left < EDGE, top < EDGE), (right > width - EDGE, bottom > height - EDGE)
        if any(at_start + at_end):
            factor, angle = max(factor, 1.0), 0.0
        low, high = ([-math.inf if not end else 0.0 for end in at_end], [math.inf if not s else 0.0 for s in at_start])
        return factor, angle, torch.tensor([min(max(a, b), c) for a, b, c in zip((x, y), low, high, strict=True)])


def filled(pixels: Tensor, hole: Tensor) -> Tensor:
    """A copy of pixels [C, H, W] whose hole [H, W] has the colours around it, blurrier the farther they are.

    Means of what is known are taken over ever larger squares until they reach (pull and push: Gortler et al., 1996).
    """
    known = (~hole)[None, None].float()
    return torch.where(hole, _spread(pixels[None] * known, known)[0], pixels)


def _spread(colours: Tensor, known: Tensor) -> Tensor:
    """Mean colours [1, C, h, w] from their sums and from how much is known of each place."""
    means = colours / known.clamp(min=1e-6)
    if known.all() or max(known.shape[2:]) == 1:
        return means
    coarse = _spread(*(F.avg_pool2d(each, 2, ceil_mode=True) for each in (colours, known)))
    wide = F.interpolate(coarse, size=known.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(known > 0, means, wide)
