"""Detection and instance segmentation over any backbone, of torchvision's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swinv2.model.detect.config import DETECTORS, BoxStage, DetectorConfig, detector_config

if TYPE_CHECKING:
    from swinv2.model.detect.detector import Detector, create_detector

__all__ = ["DETECTORS", "BoxStage", "Detector", "DetectorConfig", "create_detector", "detector_config"]


def __getattr__(name: str) -> Any:
    """Import what needs torchvision when it is first used: configurations do not."""
    if name not in ("Detector", "create_detector"):
        raise AttributeError(f"module 'swinv2.model.detect' has no attribute {name!r}")
    from swinv2.model.detect import detector

    return getattr(detector, name)
