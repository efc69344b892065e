"""The Swin Transformer as plain modules."""

from swinv2.model.backbone import SwinTransformer, create_model
from swinv2.model.features import NamedMaps, SwinBackbone
from swinv2.model.native import Native
from swinv2.model.simmim import SimMIM

__all__ = ["NamedMaps", "Native", "SimMIM", "SwinBackbone", "SwinTransformer", "create_model"]
