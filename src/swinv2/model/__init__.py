"""The Swin Transformer as plain modules."""

from swinv2.model.backbone import SwinTransformer, create_model
from swinv2.model.features import NamedMaps, SwinBackbone

__all__ = ["NamedMaps", "SwinBackbone", "SwinTransformer", "create_model"]
