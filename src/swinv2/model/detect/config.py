"""Detectors as plain data: `DetectorConfig`, the table of published ones, and nothing that needs torch.

Faster and Mask R-CNN, Cascade R-CNN, HTC and HTC++ differ in fields, never by name: one stage of boxes or three, with
masks or without, and how information flows between the stages.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from swinv2.config import did_you_mean

Suppression = Literal["nms", "soft_nms_linear", "soft_nms_gaussian"]
Numbers = tuple[float, ...]

IGNORED = 255
"""Label of a pixel that the semantic branch does not learn from."""


def _numbers(name: str, value: object, count: int | None) -> Numbers:
    """A tuple of positive numbers, ``count`` of them unless it is None."""
    entries = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not entries or (count is not None and len(entries) != count):
        raise ValueError(f"{name} is {value!r}, but must be a tuple of {count or 'one or more'} numbers.")
    for entry in entries:
        _check_number(name, entry, 0)
    return entries


def _check_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value == math.inf:
        bounds = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} is {value!r}, but must be a number {bounds}.")


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}, but must be a whole number of at least {least}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxStage:
    """One stage of box (and mask) heads."""

    iou: float = 0.5
    """Overlap with an object from which on a box stands for it in training."""
    weights: Numbers = (10.0, 10.0, 5.0, 5.0)
    """Factors of the regression targets (x, y, width, height): one over their standard deviations."""
    loss_weight: float = 1.0
    """Factor of the losses of this stage."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _numbers("weights", self.weights, 4))
        _check_number("iou", self.iou, 0, 1)
        _check_number("loss_weight", self.loss_weight, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """One detector over any backbone; the defaults are torchvision's Faster R-CNN.

    `ValueError` is raised, with the remedy, for anything that cannot be built.
    """

    num_classes: int = 80
    """Classes of objects, background not counted."""
    stages: tuple[BoxStage, ...] = (BoxStage(),)
    """One for Faster and Mask R-CNN, three for Cascade R-CNN (arXiv 1712.00726) and HTC (arXiv 1901.07518)."""
    class_agnostic_boxes: bool = False
    """Regress one box for all classes rather than one for each."""
    box_loss_beta: float = 1 / 9
    """Where the smooth L1 loss of boxes turns from a parabola into a line."""
    box_features: int = 1024
    """Width of the two linear layers of a box head."""
    masks: bool = False
    """A mask head at every stage."""
    interleaved: bool = False
    """A stage's mask head learns from the boxes that this stage's box head has refined (HTC)."""
    mask_flow: bool = False
    """A mask head adds the features of the mask head before it to its own (HTC)."""
    semantic_classes: int = 0
    """Classes of the semantic branch, whose features join those of boxes and masks (HTC); 0 for no such branch."""
    semantic_loss_weight: float = 0.2
    """Factor of the semantic branch's loss."""
    global_attention: bool = False
    """One layer of self-attention over the whole last map (HTC++)."""
    pyramid_channels: int = 256
    """Channels of the feature pyramid and of the mask heads."""
    anchor_scales: Numbers = (8.0,)
    """Sides of the square anchors of a level, in units of its stride."""
    anchor_ratios: Numbers = (0.5, 1.0, 2.0)
    """Height over width of the anchors."""
    proposal_iou: Numbers = (0.3, 0.7)
    """Overlap below which an anchor is background, and from which on it stands for an object."""
    proposal_samples: int = 256
    """Anchors of an image that the proposal network learns from."""
    proposal_positives: float = 0.5
    """Share of them that may stand for objects."""
    proposals_before_nms: tuple[int, int] = (2000, 1000)
    """Best proposals of each level that go on to suppression: in training and in testing."""
    proposals_after_nms: tuple[int, int] = (2000, 1000)
    """Best proposals of an image that remain after it."""
    proposal_nms_iou: float = 0.7
    """Overlap above which the worse of two proposals goes."""
    box_samples: int = 512
    """Boxes of an image that a stage learns from."""
    box_positives: float = 0.25
    """Share of them that may stand for objects."""
    score_threshold: float = 0.05
    """Detections must score more."""
    suppression: Suppression = "nms"
    """For overlapping detections of a class: nms | soft_nms_linear | soft_nms_gaussian (arXiv 1704.04503)."""
    suppression_iou: float = 0.5
    """Overlap above which the worse of two detections goes (nms) or loses score (soft_nms_linear)."""
    soft_nms_sigma: float = 0.5
    """Width of the Gaussian: a score becomes ``score * exp(-iou**2 / sigma)``."""
    detections_per_image: int = 100
    """Best detections of an image that are returned."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _stages(self.stages))
        for name, count in _LENGTHS.items():
            object.__setattr__(self, name, _numbers(name, getattr(self, name), count))
        for name in ("proposals_before_nms", "proposals_after_nms"):
            for entry in getattr(self, name):
                _check_whole(name, entry, 1)
        for name, least in _LEAST.items():
            _check_whole(name, getattr(self, name), least)
        for name, (low, high) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high)
        self._check()

    def _check(self) -> None:
        low, high = self.proposal_iou
        kinds = get_args(Suppression)
        for impossible, sentence in (
            (
                self.suppression not in kinds,
                f"suppression is {self.suppression!r}, but must be one of {', '.join(map(repr, kinds))}"
                f"{did_you_mean(self.suppression, kinds)}.",
            ),
            (
                not 0 <= low <= high <= 1,
                f"proposal_iou is {self.proposal_iou}, but must be two rising numbers from 0 to 1.",
            ),
            (
                self.interleaved and not self.masks,
                "interleaved is True, but there are no mask heads to interleave with the boxes: set masks=True.",
            ),
            (
                self.mask_flow and not (self.masks and len(self.stages) > 1),
                "mask_flow passes features from one stage's mask head to the next: set masks=True and give two stages "
                "or more.",
            ),
            (
                self.semantic_classes > IGNORED,
                f"semantic_classes is {self.semantic_classes}, but label {IGNORED} stands for ignored pixels: "
                f"at most {IGNORED} are possible.",
            ),
        ):
            if impossible:
                raise ValueError(sentence)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` turns back into an equal configuration."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DetectorConfig:
        """Build from plain data, lists allowed for tuples; unknown names are refused."""
        _check_names(cls, fields)
        return cls(**fields)


_LENGTHS: dict[str, int | None] = {
    "anchor_scales": None,
    "anchor_ratios": None,
    "proposal_iou": 2,
    "proposals_before_nms": 2,
    "proposals_after_nms": 2,
}
_LEAST = {
    "num_classes": 1,
    "box_features": 1,
    "semantic_classes": 0,
    "pyramid_channels": 1,
    "proposal_samples": 1,
    "box_samples": 1,
    "detections_per_image": 1,
}
_RANGES = {
    "box_loss_beta": (0.0, math.inf),
    "semantic_loss_weight": (0.0, math.inf),
    "proposal_positives": (0.0, 1.0),
    "proposal_nms_iou": (0.0, 1.0),
    "box_positives": (0.0, 1.0),
    "score_threshold": (0.0, 1.0),
    "suppression_iou": (0.0, 1.0),
    "soft_nms_sigma": (1e-6, math.inf),
}


def detector_config(name: str, **overrides: Any) -> DetectorConfig:
    """A detector of the table with overrides (any field of `DetectorConfig`), such as ``num_classes=3``.

    Raises:
        ValueError: there is no such detector or field, or what comes out cannot be built.
    """
    if name not in DETECTORS:
        known = ", ".join(DETECTORS)
        raise ValueError(f"There is no detector {name!r}{did_you_mean(name, DETECTORS)}: choose one of {known}.")
    _check_names(DetectorConfig, overrides)
    return dataclasses.replace(DETECTORS[name], **overrides)


def _check_names(cls: type[Any], fields: Mapping[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(cls)}
    for name in fields:
        if name not in known:
            raise ValueError(f"{cls.__name__} has no field {name!r}{did_you_mean(name, known)}.")


def _stages(value: object) -> tuple[BoxStage, ...]:
    entries = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not entries or not all(isinstance(entry, BoxStage | Mapping) for entry in entries):
        raise ValueError(f"stages is {value!r}, but must be one BoxStage or more, or mappings of their fields.")
    for entry in entries:
        if isinstance(entry, Mapping):
            _check_names(BoxStage, entry)
    return tuple(entry if isinstance(entry, BoxStage) else BoxStage(**entry) for entry in entries)


# The published standard deviations: .1 .1 .2 .2, .05 .05 .1 .1, and a third of the first (printed as .033 and .067).
_CASCADE: dict[str, Any] = {
    "stages": (
        BoxStage(iou=0.5, weights=(10.0, 10.0, 5.0, 5.0), loss_weight=1.0),
        BoxStage(iou=0.6, weights=(20.0, 20.0, 10.0, 10.0), loss_weight=0.5),
        BoxStage(iou=0.7, weights=(30.0, 30.0, 15.0, 15.0), loss_weight=0.25),
    ),
    "class_agnostic_boxes": True,
    "box_loss_beta": 1.0,
}
_HTC: dict[str, Any] = {**_CASCADE, "masks": True, "interleaved": True, "mask_flow": True, "score_threshold": 0.001}

DETECTORS: dict[str, DetectorConfig] = {
    "faster_rcnn": DetectorConfig(),
    "mask_rcnn": DetectorConfig(masks=True),
    "cascade_rcnn": DetectorConfig(**_CASCADE),
    "cascade_mask_rcnn": DetectorConfig(**_CASCADE, masks=True),
    "htc": DetectorConfig(**_HTC),
    "htc_plus_plus": DetectorConfig(**_HTC, global_attention=True, suppression="soft_nms_linear"),
}
"""Published detectors, for COCO's 80 classes.

HTC's semantic branch needs maps of stuff, so it is not on: ``semantic_classes=183`` adds it for COCO.
"""
