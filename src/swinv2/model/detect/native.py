"""A detector on the Swin Transformer, as files of ours hold it."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from swinv2.config import SwinConfig
from swinv2.info import ModelInfo
from swinv2.model.detect.config import DetectorConfig
from swinv2.model.detect.detector import Detector
from swinv2.model.features import SwinBackbone
from swinv2.model.native import Native


class SwinDetector(Detector, Native):
    """`Detector` on a `SwinBackbone` of all stages: ``config`` tells the backbone and the number of classes.

    Args:
        config: The architecture; ``num_classes`` are those of objects, without background.
        detector: Fields of `DetectorConfig` but ``num_classes``; those left out are Faster R-CNN's.

    Raises:
        ValueError: The fields make no detector, or the architecture is none of images.
    """

    kind = "detector"

    def __init__(self, config: SwinConfig, **detector: Any) -> None:
        heads = DetectorConfig.from_dict({**detector, "num_classes": config.num_classes})
        super().__init__(SwinBackbone(config), heads)
        self.config = config
        self.info = ModelInfo()
        plain = json.loads(json.dumps(heads.to_dict()))
        self.head_config = {name: value for name, value in plain.items() if name != "num_classes"}

    @property
    def compilable(self) -> nn.Module:
        """See `Native`: how many boxes the heads look at depends on numbers."""
        return self.backbone
