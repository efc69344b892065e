"""COCO's average precision of boxes and masks, by its official protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from faster_coco_eval import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from torch import nn

from swinv2.data.rle import RLE
from swinv2.data.sources.coco import CocoSource
from swinv2.tasks.detect.testing import Detections

KINDS = {"box": "bbox", "mask": "segm"}
SIZES = ("small", "medium", "large")
"""Areas below 32x32 pixels, below 96x96, and above."""

Precision = npt.NDArray[np.float64]  # [IoU thresholds, recalls, classes, areas, limits of detections]


class _Found(NamedTuple):
    """The detections of one image, small enough to be sent to other processes."""

    boxes: npt.NDArray[np.float32]  # [N, 4], left, top, right and bottom
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    rles: list[RLE]


class DetectionMetrics(nn.Module):
    """AP of boxes, and of masks where there are some, over any number of batches and processes.

    Only images that were seen count, each once; regions of many objects (crowds) are no misses, as officially.

    Args:
        source: The images with their true objects.
        masks: Whether to measure masks too.

    Raises:
        ValueError: The source has no objects, or masks are wanted and one is missing or damaged.
    """

    def __init__(self, source: CocoSource, *, masks: bool) -> None:
        super().__init__()
        if not sum(source.labels):
            raise ValueError(f"{source.where} has no objects in its images: AP is measured on some.")
        self.classes = source.classes
        self.kinds = ("box", "mask") if masks else ("box",)
        self.truth = _coco(source.ground_truth(masks))
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._own: dict[int, _Found] = {}
        self._all: dict[int, _Found] | None = None
        self._precisions: dict[str, Precision] = {}

    def update(self, indices: Sequence[int], detections: Sequence[Detections]) -> None:
        """Count the detections of images, in pixels of the originals, by the images' rows in the source."""
        self._all, self._precisions = None, {}
        for index, found in zip(indices, detections, strict=True):
            if "mask" in self.kinds and "rles" not in found:
                raise ValueError("masks are to be measured, but the detector gives boxes alone: measure boxes.")
            boxes, labels, scores = (found[name].detach().cpu().numpy() for name in ("boxes", "labels", "scores"))
            self._own[index] = _Found(boxes, labels, scores, found.get("rles", []))

    def images(self) -> int:
        """How many images were counted so far, by all processes, each of which must ask."""
        return len(self._gathered())

    def scalars(self) -> dict[str, float]:
        """Figures from 0 to 1, such as box_ap, box_ap50 and mask_ap_small; NaN where there are no such objects.

        With several processes, each must ask.
        """
        figures: dict[str, float] = {}
        for kind in self.kinds:
            precision = self._precision(kind)
            figures[f"{kind}_ap"] = _mean(precision[..., 0, -1])
            figures[f"{kind}_ap50"] = _mean(precision[0, ..., 0, -1])
            figures[f"{kind}_ap75"] = _mean(precision[5, ..., 0, -1])
            for area, size in enumerate(SIZES, start=1):
                figures[f"{kind}_ap_{size}"] = _mean(precision[..., area, -1])
        return figures

    def by_class(self) -> dict[str, dict[str, float]]:
        """AP and AP50 of each class, as scalars has them of all; with several processes, each must ask."""
        return {
            name: {
                f"{kind}_{figure}": _mean(self._precision(kind)[thresholds, :, number, 0, -1])
                for kind in self.kinds
                for figure, thresholds in (("ap", slice(None)), ("ap50", slice(1)))
            }
            for number, name in enumerate(self.classes)
        }

    def _gathered(self) -> dict[int, _Found]:
        if self._all is None:
            parts: list[Any] = [self._own]
            if dist.is_available() and dist.is_initialized():
                parts = [None] * dist.get_world_size()
                dist.all_gather_object(parts, self._own)
            self._all = {index: found for part in parts for index, found in part.items()}
        return self._all

    def _precision(self, kind: str) -> Precision:
        if kind not in self._precisions:
            found = self._gathered()
            evaluation = COCOeval_faster(
                self.truth, _results(self.truth, found, kind), KINDS[kind], print_function=_quiet
            )
            evaluation.params.imgIds = sorted(found)
            evaluation.evaluate()
            evaluation.accumulate()
            self._precisions[kind] = np.asarray(evaluation.eval["precision"])
        return self._precisions[kind]


def _quiet(*_: object) -> None:
    """Print nothing."""


def _coco(content: dict[str, Any]) -> COCO:
    return COCO(content, print_function=_quiet)


def _results(truth: COCO, found: dict[int, _Found], kind: str) -> COCO:
    """Detections as COCO takes them; those of masks bring no boxes, by which their size would be judged."""
    entries = []
    for index, image in found.items():
        sides = image.boxes[:, 2:] - image.boxes[:, :2]
        corners = np.concatenate([image.boxes[:, :2], sides], axis=1).astype(np.float64).tolist()
        shapes = [{"bbox": box} for box in corners] if kind == "box" else [{"segmentation": rle} for rle in image.rles]
        for shape, label, score in zip(shapes, image.labels.tolist(), image.scores.tolist(), strict=True):
            entries.append({"image_id": index, "category_id": label, "score": score, **shape})
    return truth.loadRes(entries)


def _mean(values: Precision) -> float:
    """The mean where precision is defined; COCO says -1 elsewhere."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")
