"""Models as files that run without this library: `torch.export` (pt2) and ONNX, for any batch and size of input."""

from swinv2.export.exporting import Exported, export, prepare
from swinv2.export.formats import FORMATS

__all__ = ["FORMATS", "Exported", "export", "prepare"]
