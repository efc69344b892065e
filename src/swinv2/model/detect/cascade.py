"""Stages of box and mask heads: one is Faster or Mask R-CNN, several are a cascade; what flows between them is data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from swinv2.model.detect.config import DetectorConfig
from swinv2.model.detect.heads import BOX_SIZE, FUSION_LEVEL, MASK_SIZE, BoxHead, MaskHead, RoIPool, SemanticHead
from swinv2.model.detect.losses import box_losses, mask_loss, mask_targets, semantic_loss
from swinv2.model.detect.matching import Samples, Target, sample
from swinv2.model.detect.suppression import suppress
from swinv2.precision import at_least_fp32

SMALLEST_SIDE = 1e-2
"""Pixels that a detection has at least on each side."""

Size = tuple[int, int]
Boxes = Sequence[Tensor]


@dataclass(frozen=True)
class Scene:
    """What the heads look at."""

    maps: Mapping[str, Tensor]
    """Levels of the pyramid."""
    sizes: Sequence[Size]
    """Height and width of each image, without padding."""
    embedding: Tensor | None
    """The semantic branch's."""


class Cascade(nn.Module):
    """Box heads and mask heads, one of each per stage, and the semantic branch where there is one.

    Each stage learns from the boxes of the stage before it, matched anew at its own overlap, and moves them. In testing
    all stages' class logits are averaged, and all mask heads' probabilities (as in the reference implementations of
    Cascade R-CNN and HTC).

    Args:
        levels: stride by name of the pyramid's levels.
        config: the detector.
    """

    def __init__(self, levels: Mapping[str, int], config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        channels, classes, semantic = config.pyramid_channels, config.num_classes, config.semantic_classes
        pooled = {name: stride for name, stride in levels.items() if name.isdigit()}
        self.box_pool, self.mask_pool = RoIPool(pooled, BOX_SIZE), RoIPool(pooled, MASK_SIZE)
        self.box = nn.ModuleList(
            BoxHead(channels, config.box_features, classes, config.class_agnostic_boxes) for _ in config.stages
        )
        self.mask = nn.ModuleList(
            MaskHead(channels, classes, flow=config.mask_flow and number > 0)
            for number in range(len(config.stages) if config.masks else 0)
        )
        self.semantic = SemanticHead(channels, len(levels), semantic) if semantic else None
        self.semantic_pool = RoIPool(dict([list(levels.items())[FUSION_LEVEL]]), MASK_SIZE) if semantic else None
        self.coders = [BoxCoder(stage.weights) for stage in config.stages]
        self.sampler = BalancedPositiveNegativeSampler(config.box_samples, config.box_positives)

    def losses(
        self,
        maps: Mapping[str, Tensor],
        proposals: Boxes,
        sizes: Sequence[Size],
        padded: Size,
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        """Losses of every stage, weighted: "loss_classifier_1", "loss_box_reg_1", "loss_mask_1" and so on.

        Args:
            maps: levels of the pyramid.
            proposals: ``[M, 4]`` of each image.
            sizes: of each image.
            padded: of the batch.
            targets: of each image.
        """
        scene, semantic_logits = self._scene(maps, sizes)
        losses = {}
        if semantic_logits is not None:
            loss = semantic_loss(semantic_logits, [target["semantic"] for target in targets], padded)
            losses["loss_semantic"] = self.config.semantic_loss_weight * loss
        boxes, beta = proposals, self.config.box_loss_beta
        for number, stage in enumerate(self.config.stages):
            samples = sample(boxes, targets, stage.iou, self.sampler)
            logits, deltas = self.box[number](self._pool(self.box_pool, scene, samples.boxes))
            class_loss, box_loss = box_losses(logits, deltas, samples, targets, self.coders[number], beta)
            losses[f"loss_classifier_{number + 1}"] = stage.loss_weight * class_loss
            losses[f"loss_box_reg_{number + 1}"] = stage.loss_weight * box_loss
            moved = self._move(number, samples.boxes, logits, deltas, sizes, torch.cat(samples.labels))
            boxes = [each[~given] for each, given in zip(moved, samples.given, strict=True)]
            if self.config.masks:
                if self.config.interleaved:
                    samples = sample(boxes, targets, stage.iou, self.sampler)
                losses[f"loss_mask_{number + 1}"] = stage.loss_weight * self._mask_loss(number, scene, samples, targets)
        return losses

    def detect(self, maps: Mapping[str, Tensor], proposals: Boxes, sizes: Sequence[Size]) -> list[dict[str, Tensor]]:
        """Detections of each image, best first: "boxes", "labels", "scores" and, ``[N, 1, 28, 28]`` within the box,
        "masks".
        """
        scene, _ = self._scene(maps, sizes)
        boxes, every = proposals, []
        for number, head in enumerate(self.box):
            logits, deltas = head(self._pool(self.box_pool, scene, boxes))
            every.append(logits)
            if number + 1 < len(self.box):
                boxes = self._move(number, boxes, logits, deltas, sizes)
        scores = torch.stack(every).mean(0).softmax(-1)
        counts = [len(each) for each in boxes]
        decoded = _decode(self.coders[-1], deltas, boxes)
        found = [self._select(*each) for each in zip(decoded.split(counts), scores.split(counts), sizes, strict=True)]
        if self.config.masks:
            masks = self._masks(scene, found)
            found = [{**each, "masks": own} for each, own in zip(found, masks, strict=True)]
        return found

    def _scene(self, maps: Mapping[str, Tensor], sizes: Sequence[Size]) -> tuple[Scene, Tensor | None]:
        """What heads look at, and the semantic branch's logits."""
        embedding, logits = (None, None) if self.semantic is None else self.semantic(list(maps.values()))
        return Scene(maps, sizes, embedding), logits

    def _pool(self, pool: RoIPool, scene: Scene, boxes: Boxes) -> Tensor:
        x = pool(scene.maps, boxes)
        if self.semantic_pool is None or scene.embedding is None:
            return x
        semantic = self.semantic_pool({self.semantic_pool.featmap_names[0]: scene.embedding}, boxes)
        return x + F.adaptive_avg_pool2d(semantic, x.shape[-2:])

    @torch.no_grad()
    def _move(
        self,
        number: int,
        boxes: Boxes,
        logits: Tensor,
        deltas: Tensor,
        sizes: Sequence[Size],
        labels: Tensor | None = None,
    ) -> list[Tensor]:
        """Boxes as a stage refines them, within their images.

        Where deltas are per class, those of the object's class where ``labels`` tells it, else of the likeliest one.
        """
        classes = logits[:, 1:].argmax(1) + 1
        if labels is not None:
            classes = torch.where(labels > 0, labels, classes)
        decoded = _decode(self.coders[number], deltas, boxes)
        column = classes if decoded.shape[1] > 1 else torch.zeros_like(classes)
        moved = decoded[torch.arange(len(decoded), device=decoded.device), column]
        parts = moved.split([len(each) for each in boxes])
        return [clip_boxes_to_image(part, size) for part, size in zip(parts, sizes, strict=True)]

    def _mask_loss(self, number: int, scene: Scene, samples: Samples, targets: Sequence[Target]) -> Tensor:
        boxes, labels, objects = (
            [each[positive] for each, positive in zip(kind, samples.positive, strict=True)]
            for kind in (samples.boxes, samples.labels, samples.objects)
        )
        x = self._pool(self.mask_pool, scene, boxes)
        features = None
        for each in range(number + 1) if self.config.mask_flow else [number]:
            features = self.mask[each](x, features)
        logits = self._mask_head(number).predictor(features)
        wanted = [
            mask_targets(target["masks"], known, index, logits.shape[-1])
            for target, known, index in zip(targets, boxes, objects, strict=True)
        ]
        return mask_loss(logits, torch.cat(labels), torch.cat(wanted))

    def _mask_head(self, number: int) -> MaskHead:
        return cast(MaskHead, self.mask[number])

    def _select(self, boxes: Tensor, scores: Tensor, size: Size) -> dict[str, Tensor]:
        """Detections of an image, of boxes ``[M, R, 4]`` and scores ``[M, classes + 1]``."""
        boxes, scores = clip_boxes_to_image(boxes, size), scores[:, 1:]
        boxes = boxes[:, 1:] if boxes.shape[1] > 1 else boxes.expand(-1, scores.shape[1], -1)
        row, column = torch.where(scores > self.config.score_threshold)
        boxes, scores, labels = boxes[row, column], scores[row, column], column + 1
        kept = remove_small_boxes(boxes, SMALLEST_SIDE)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        kept, scores = suppress(boxes, scores, labels, self.config)
        return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores}

    def _masks(self, scene: Scene, found: Sequence[Mapping[str, Tensor]]) -> Sequence[Tensor]:
        """Probabilities ``[N, 1, 28, 28]`` of each image's detections, the mean of all mask heads."""
        labels = torch.cat([each["labels"] for each in found])
        x = self._pool(self.mask_pool, scene, [each["boxes"] for each in found])
        every = torch.arange(len(labels), device=labels.device)
        features, probabilities = None, []
        for number in range(len(self.mask)):
            features = self.mask[number](x, features)
            logits = self._mask_head(number).predictor(features)[every, labels]
            probabilities.append(logits.to(at_least_fp32(logits.dtype)).sigmoid())
        mean = torch.stack(probabilities).mean(0)
        return mean[:, None].split([len(each["labels"]) for each in found])


def _decode(coder: BoxCoder, deltas: Tensor, boxes: Boxes) -> Tensor:
    """``[N, 4 R]`` to boxes ``[N, R, 4]``."""
    return coder.decode_single(deltas, torch.cat(list(boxes))).reshape(len(deltas), deltas.shape[1] // 4, 4)
