"""SimMIM models from weights of any known format; `swinv2.load` makes a `SwinTransformer` of the same files."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch

from swinv2.checkpoint.loading import Dtype, cast, read_stored
from swinv2.checkpoint.reading import Source
from swinv2.model.simmim import SimMIM, fresh_decoder, fresh_mask_token
from swinv2.storage import Stored, check_tensors, some


def load_simmim(source: Source, *, dtype: Dtype = torch.float32, key: str | None = None, **overrides: Any) -> SimMIM:
    """A `SimMIM` from its own or a released checkpoint, or around any encoder; on the CPU, in evaluation mode.

    A mask token or decoder that the weights lack, or that paints other channels or axes than the overrides ask for,
    starts anew with a warning. A head is left out.

    Args:
        source: see `swinv2.load`.
        dtype: see `swinv2.load`.
        key: see `swinv2.load`.
        overrides: see `swinv2.load`.

    Raises:
        ValueError: the weights cannot be read or recognised, do not tell their window, or do not fit the overrides.
    """
    stored = read_stored(source, key=key, **{**overrides, "num_classes": 0})
    with torch.device("meta"):
        model = SimMIM(stored.config)
    expected = model.state_dict()
    tensors = {name: tensor.clone() for name, tensor in stored.tensors.items()}
    fresh = {"mask_token": fresh_mask_token(stored.config).detach()}
    fresh |= {f"decoder.{name}": tensor for name, tensor in fresh_decoder(stored.config).state_dict().items()}
    anew = [name for name in fresh if name not in tensors or tensors[name].shape != expected[name].shape]
    if anew:
        warnings.warn(
            f"{some(anew)} of the pre-training are not in the weights, or do not fit: trained anew", stacklevel=2
        )
    tensors |= {name: fresh[name].to(tensors["norm.weight"]) for name in anew}
    tensors = dict(cast(Stored(stored.config, tensors, stored.info), dtype).tensors)
    check_tensors("The file", expected, tensors)
    model.load_state_dict(tensors, assign=True)
    model.info = replace(stored.info, classes=())
    return model.eval()
