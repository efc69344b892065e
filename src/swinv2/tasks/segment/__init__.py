"""Semantic segmentation: its loss, metrics, inference and pictures, over any model of pixel logits."""
