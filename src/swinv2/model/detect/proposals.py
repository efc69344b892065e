"""The region proposal network: torchvision's, in fp32 under autocast, in bounded memory for any number of objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from swinv2.model.detect.config import DetectorConfig
from swinv2.model.detect.matching import Target, match
from swinv2.precision import at_least_fp32


class Anchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is not typed
    """Anchors of each level at its stride.

    torchvision divides the padded image by the map, so that where a level's map does not divide it (the last ones of
    an image padded to 32), anchors would move with the padding of the batch; and it takes the maps' dtype, in which
    half precision cannot tell pixels apart.
    """

    def __init__(self, strides: Sequence[int], config: DetectorConfig) -> None:
        sizes = tuple(tuple(scale * stride for scale in config.anchor_scales) for stride in strides)
        super().__init__(sizes, (config.anchor_ratios,) * len(strides))
        self.strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The same ``[anchors, 4]`` for every image."""
        first = feature_maps[0]
        self.set_cell_anchors(at_least_fp32(first.dtype), first.device)
        grids = [list(x.shape[-2:]) for x in feature_maps]
        strides = [[stride, stride] for stride in self.strides]
        anchors = torch.cat(self.grid_anchors(grids, strides))
        return [anchors] * len(image_list.image_sizes)


class ProposalHead(RPNHead):  # type: ignore[misc]  # torchvision is not typed
    """torchvision's convolutions, their outputs at least fp32, as coordinates need."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness ``[B, A, h, w]`` and deltas ``[B, 4 A, h, w]`` of each level."""
        scores, deltas = super().forward(x)
        wide = at_least_fp32(x[0].dtype)
        return [score.to(wide) for score in scores], [delta.to(wide) for delta in deltas]


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]  # torchvision is not typed
    """Proposals of each image and, in training, the losses "loss_objectness" and "loss_rpn_box_reg" (beta 1/9).

    Args:
        strides: pixels per token of the pyramid's levels.
        config: the detector.
    """

    def __init__(self, strides: Sequence[int], config: DetectorConfig) -> None:
        anchors = Anchors(strides, config)
        background, positive = config.proposal_iou
        super().__init__(
            anchors,
            ProposalHead(config.pyramid_channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=positive,
            bg_iou_thresh=background,
            batch_size_per_image=config.proposal_samples,
            positive_fraction=config.proposal_positives,
            pre_nms_top_n=dict(zip(("training", "testing"), config.proposals_before_nms, strict=True)),
            post_nms_top_n=dict(zip(("training", "testing"), config.proposals_after_nms, strict=True)),
            nms_thresh=config.proposal_nms_iou,
        )
        self.background_iou, self.positive_iou = background, positive

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: Sequence[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Per image: 1 for objects, 0 for background, -1 for what is neither; and the box of each anchor's object."""
        labels, matched = [], []
        for known, target in zip(anchors, targets, strict=True):
            boxes = target["boxes"]
            index = match(boxes, known, self.background_iou, self.positive_iou, keep_best=True)
            labels.append((index + 1).clamp(-1, 1).to(known.dtype))
            matched.append(boxes[index.clamp(min=0)] if len(boxes) else torch.zeros_like(known))
        return labels, matched
