"""Masks in images, against scipy's interpolation, and beside torchvision's."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.models.detection.roi_heads import paste_masks_in_image

from swinv2.model.detect.pasting import binary_masks, paste


def noise(count, height, width):
    """Smooth masks in boxes of all sizes, some of which reach the edges of the image."""
    generator = torch.Generator().manual_seed(0)
    far = torch.tensor([width, height, width, height], dtype=torch.float64)
    start = torch.rand(count, 2, generator=generator) * 1.2 - 0.2
    boxes = torch.cat([start, start + torch.rand(count, 2, generator=generator) ** 2 + 0.01], 1) * far
    masks = torch.nn.functional.avg_pool2d(torch.rand(count, 1, 28, 28, generator=generator), 5, 1, 2)
    return (masks * 2 - 0.4).double(), boxes.clamp(min=0).minimum(far)


@pytest.mark.parametrize("size", [(61, 83), (300, 40), (7, 5), (1, 1)])
def test_a_mask_is_interpolated_at_pixel_centres_and_only_within_its_box(size):
    masks, boxes = noise(40, *size)
    together = binary_masks(masks, boxes, size, 0.5)
    for mask, box, binary in zip(masks, boxes, together, strict=True):
        x1, y1, x2, y2 = box.tolist()
        rows = (np.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 28 - 0.5 if y2 > y1 else np.full(size[0], -9.0)
        columns = (np.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 28 - 0.5 if x2 > x1 else np.full(size[1], -9.0)
        places = np.meshgrid(rows, columns, indexing="ij")
        want = ndimage.map_coordinates(mask[0].numpy(), places, order=1, mode="grid-constant", prefilter=False)
        part, top, left = paste(mask, box, size)
        bottom, right = top + part.shape[0], left + part.shape[1]
        np.testing.assert_allclose(part, want[top:bottom, left:right], atol=1e-9)
        np.testing.assert_array_equal(binary, want >= 0.5)
        assert part.numel() <= max(x2 - x1 + 2, 0) * max(y2 - y1 + 2, 0)


def test_small_objects_keep_their_size_and_large_ones_are_torchvisions():
    full = torch.full((1, 1, 28, 28), 0.95)
    box = torch.tensor([[20.0, 30.0, 30.0, 40.0]])
    assert binary_masks(full, box, (64, 64), 0.5)[0, 30:40, 20:30].sum() == 100
    assert binary_masks(full, box, (64, 64), 0.5).sum() == 100
    assert (paste_masks_in_image(full, box, (64, 64)) >= 0.5).sum() == 144
    masks, boxes = (each.float() for each in noise(40, 400, 500))
    wide = (boxes[:, 2:] - boxes[:, :2]).amin(1) > 120
    masks, boxes = masks[wide], boxes[wide]
    ours = binary_masks(masks, boxes, (400, 500), 0.5)
    theirs = paste_masks_in_image(masks, boxes, (400, 500))[:, 0] >= 0.5
    assert len(masks) > 3
    assert ((ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))).min() > 0.95


def test_no_masks():
    assert binary_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (5, 6), 0.5).shape == (0, 5, 6)
