"""The Swin Transformer as plain modules."""

from swinv2.model.backbone import SwinTransformer, create_model

__all__ = ["SwinTransformer", "create_model"]
