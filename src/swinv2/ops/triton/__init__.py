"""Fused kernels, forward and backward; the only place that imports triton. `swinv2.ops.dispatch` imports it when it
runs.
"""
