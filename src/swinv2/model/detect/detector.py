"""The detector: a backbone, a feature pyramid, proposals, and stages of heads."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from swinv2.geometry import ceil_div
from swinv2.model.detect.batch import check_targets, pad_images
from swinv2.model.detect.cascade import Cascade
from swinv2.model.detect.config import DetectorConfig, detector_config
from swinv2.model.detect.global_attention import GlobalAttention
from swinv2.model.detect.heads import FUSION_LEVEL
from swinv2.model.detect.matching import Target
from swinv2.model.detect.proposals import ProposalNetwork


class Detector(nn.Module):
    """Boxes and masks of objects on images, for any backbone of maps whose strides double.

    Args:
        backbone: images ``[B, C, H, W]`` to a list of maps ``[B, C_i, h_i, w_i]``, the finest first; its ``channels``
            and ``strides`` say what they are (`SwinBackbone` and any other).
        config: what to build on it.

    Attributes:
        settings: the configuration.
        backbone: as given.
        global_attention: HTC++'s layer on the last map; None without.
        neck: feature pyramid, with one more level than the backbone has maps.
        rpn: proposals.
        heads: boxes, masks and semantics.

    Raises:
        ValueError: the backbone does not say what its maps are, or no pyramid can stand on them.
    """

    def __init__(self, backbone: nn.Module, config: DetectorConfig) -> None:
        super().__init__()
        channels, strides = _described(backbone, config)
        self.settings = config
        self.last_stride = strides[-1]
        self.backbone = backbone
        self.global_attention = GlobalAttention(channels[-1]) if config.global_attention else None
        self.neck = FeaturePyramidNetwork(channels, config.pyramid_channels, LastLevelMaxPool())
        levels = {**{str(number): stride for number, stride in enumerate(strides)}, "pool": 2 * strides[-1]}
        self.rpn = ProposalNetwork(list(levels.values()), config)
        self.heads = Cascade(levels, config)

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Target] | None = None,
        *,
        paste: bool = True,
        least: tuple[int, int] = (1, 1),
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in evaluation.

        Args:
            images: ``[C, H, W]`` each, normalised and of the size to be seen at; sizes may differ.
            targets: for training, of each image "boxes" ``[N, 4]`` (x1 y1 x2 y2 in its pixels), "labels" int64 ``[N]``
                from 1 on, "masks" uint8 or boolean ``[N, H, W]`` where the detector has masks, and "semantic" uint8
                or int64 ``[H, W]`` (255: ignored) where it has the semantic branch. N may be 0.
            paste: masks ``[N, 1, H, W]`` of the images, as torchvision gives; else ``[N, 1, 28, 28]`` that fill their
                boxes, to be pasted into the originals, one by one: see `swinv2.model.detect.pasting`.
            least: height and width that images are padded to at least, as one batch.

        Returns:
            in training, losses by name, their weights applied: their sum is to be minimised. In evaluation, of each
            image "boxes" ``[N, 4]`` within it, "labels" int64 ``[N]`` from 1 on, "scores" ``[N]``, best first, and
            "masks", probabilities.

        Raises:
            ValueError: images or targets are not as described.
        """
        if self.training:
            return self._losses(images, targets, least)
        found = self._detections(images, least)
        if self.settings.masks and paste:
            for each, image in zip(found, images, strict=True):
                each["masks"] = paste_masks_in_image(each["masks"], each["boxes"], tuple(image.shape[-2:]))
        return found

    def _detections(self, images: Sequence[Tensor], least: tuple[int, int]) -> list[dict[str, Tensor]]:
        batch = pad_images(images, least)
        maps = self._maps(batch)
        proposals, _ = self.rpn(batch, maps)
        return self.heads.detect(maps, proposals, batch.image_sizes)

    def raise_limit(self, most: int) -> None:
        """Let so many detections of an image be returned from now on, if the configuration has fewer."""
        limit = max(most, self.settings.detections_per_image)
        self.settings = self.heads.config = dataclasses.replace(self.settings, detections_per_image=limit)

    def _losses(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None, least: tuple[int, int]
    ) -> dict[str, Tensor]:
        batch = pad_images(images, least)
        known = check_targets(images, targets, self.settings)
        maps = self._maps(batch)
        proposals, losses = self.rpn(batch, maps, known)
        height, width = batch.tensors.shape[-2:]
        return {**losses, **self.heads.losses(maps, proposals, batch.image_sizes, (height, width), known)}

    def _maps(self, batch: ImageList) -> Mapping[str, Tensor]:
        maps = list(self.backbone(batch.tensors))
        if self.global_attention is not None:
            stride = self.last_stride
            grids = [(ceil_div(height, stride), ceil_div(width, stride)) for height, width in batch.image_sizes]
            maps[-1] = self.global_attention(maps[-1], grids)
        return self.neck({str(number): x for number, x in enumerate(maps)})


def create_detector(backbone: nn.Module, config: DetectorConfig | str, **overrides: Any) -> Detector:
    """A detector with fresh weights on a backbone with its own.

    Args:
        backbone: see `Detector`.
        config: a configuration, or a name in `DETECTORS`.
        overrides: fields of `DetectorConfig` to replace, such as ``num_classes=3``.

    Raises:
        ValueError: there is no such detector or field, or it cannot be built on this backbone.
    """
    if isinstance(config, str):
        return Detector(backbone, detector_config(config, **overrides))
    return Detector(backbone, dataclasses.replace(config, **overrides))


def _described(backbone: nn.Module, config: DetectorConfig) -> tuple[list[int], list[int]]:
    """Channels and strides of the maps, the latter one number each."""
    channels, strides = getattr(backbone, "channels", None), getattr(backbone, "strides", None)
    if channels is None or strides is None or len(channels) != len(strides) or not channels:
        raise ValueError(
            f"{type(backbone).__name__} does not say what its maps are: a backbone has channels and strides, one entry "
            "per map."
        )
    per_axis = [(stride, stride) if isinstance(stride, int) else tuple(stride) for stride in strides]
    if any(len(stride) != 2 or stride[0] != stride[1] for stride in per_axis):
        raise ValueError(f"the backbone's strides are {strides}, but a detector needs images, alike on both axes.")
    flat = [stride[0] for stride in per_axis]
    if any(b != 2 * a for a, b in itertools.pairwise(flat)) or (len(flat) > 1 and log2(flat[0]) % 1):
        raise ValueError(
            f"the backbone's strides are {flat}, but a pyramid needs powers of two that double from map to map: choose "
            "its outputs so, the finest first."
        )
    if config.semantic_classes and len(flat) <= FUSION_LEVEL:
        raise ValueError(f"the semantic branch looks at the second map, but the backbone has {len(flat)}.")
    return list(channels), flat
