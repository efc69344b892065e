"""Models by name, with fresh or with published weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

from swinv2 import model
from swinv2.checkpoint import published
from swinv2.checkpoint.loading import load
from swinv2.checkpoint.settle import wanted_config
from swinv2.config import VARIANTS, SwinConfig, WindowSpec, did_you_mean, spread_image_size, trained_windows
from swinv2.model import SwinTransformer
from swinv2.model.features import OutIndices, SwinBackbone


@overload
def create_model(
    name: str,
    *,
    pretrained: bool = False,
    features_only: Literal[False] = False,
    frozen_stages: int = 0,
    window_size: WindowSpec | None = None,
    image_size: int | Sequence[int] | None = None,
    **overrides: Any,
) -> SwinTransformer: ...


@overload
def create_model(
    name: str,
    *,
    pretrained: bool = False,
    features_only: bool,
    out_indices: OutIndices = None,
    out_norm: bool = False,
    frozen_stages: int = 0,
    window_size: WindowSpec | None = None,
    image_size: int | Sequence[int] | None = None,
    **overrides: Any,
) -> SwinTransformer | SwinBackbone: ...


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    window_size: WindowSpec | None = None,
    image_size: int | Sequence[int] | None = None,
    **options: Any,
) -> SwinTransformer | SwinBackbone:
    """Build a model by name.

    Args:
        name: an architecture such as "swinv2_tiny" (``swinv2.list_models()``), or published weights such as
            "swinv2_base_window12to24_192to384.ms_in22k_ft_in1k" (`published.list_pretrained`); with ``pretrained``
            also a hub id.
        pretrained: download the weights, unless they are in the cache, and return the model in evaluation mode.
            Without it, the weights are fresh and the model is in training mode.
        window_size: one number, one per axis, or one entry per stage; published weights transfer to it.
        image_size: resolution that fresh weights are to be trained at, from which the trained windows follow. Any size
            can be fed. Published weights have their trained windows already.
        options: ``features_only``, ``out_indices``, ``out_norm`` and ``frozen_stages`` as in
            `swinv2.model.create_model`; any other field of `SwinConfig`, such as ``num_classes=10``.

    Raises:
        ValueError: an unknown name or field, a configuration that cannot be built, or several weights to choose from.
        DownloadError: the weights cannot be downloaded now; the sentence says what to do instead.
    """
    if not pretrained and name in VARIANTS:
        return model.create_model(name, window_size=window_size, image_size=image_size, **options)
    finish = {key: options.pop(key) for key in ("features_only", "out_indices", "out_norm") if key in options}
    frozen_stages = options.pop("frozen_stages", 0)
    if pretrained:
        if image_size is not None:
            raise ValueError(
                f"image_size is {image_size!r}, but weights keep the windows they were trained at: leave it out, any "
                "size can be fed."
            )
        built = load(_origin(name), window_size=window_size, **options)
    else:
        built = SwinTransformer(_config(_record(name), window_size, image_size, options))
    return _finished(built, frozen_stages=frozen_stages, **finish)


def _origin(name: str) -> str:
    """What to load for a name: a hub id goes on as it is."""
    if name in VARIANTS:
        return published.of_variant(name).name
    return name if "/" in name else _record(name).name


def _record(name: str) -> published.Record:
    record = published.find(name)
    if record is None:
        raise ValueError(
            f"There is no model {name!r}{did_you_mean(name, [*VARIANTS, *published.RECORDS])}; `swinv2 models` and "
            "`swinv2 models --pretrained` list them all."
        )
    return record


def _config(
    record: published.Record,
    window_size: WindowSpec | None,
    image_size: int | Sequence[int] | None,
    overrides: dict[str, Any],
) -> SwinConfig:
    """A record's architecture with overrides."""
    config = wanted_config(record.config(), {"window_size": window_size, **overrides})
    if image_size is None:
        return config
    return replace(config, trained_window_size=trained_windows(config, spread_image_size(config, image_size)))


def _finished(
    built: SwinTransformer,
    *,
    features_only: bool = False,
    out_indices: OutIndices = None,
    out_norm: bool = False,
    frozen_stages: int = 0,
) -> SwinTransformer | SwinBackbone:
    if features_only:
        return SwinBackbone(built, out_indices, out_norm=out_norm, frozen_stages=frozen_stages)
    if out_indices is not None or out_norm:
        raise ValueError("out_indices and out_norm choose a backbone's maps: pass features_only=True with them.")
    built.freeze_stages(frozen_stages)
    return built
