"""The configuration that weights were stored with, and the one that is asked for: who tells the windows, in which
order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from swinv2.checkpoint.hints import Hints
from swinv2.checkpoint.recognise import Recognised
from swinv2.config import SwinConfig, WindowSpec, did_you_mean, spread_image_size, trained_windows
from swinv2.info import ModelInfo


class MissingWindow(ValueError):  # noqa: N818 (it says what happened)
    """Nobody tells the window that a position bias was trained at."""


UNTOLD = ("drop_path_rate", "position_bias")
"""Fields that no tensor tells: an override is believed."""


def stored_config(found: Recognised, hints: Sequence[Hints], overrides: Mapping[str, Any]) -> SwinConfig:
    """The configuration of recognised weights.

    The trained windows come from the first that tells them: an override, the weights' buffers, the hints in their
    order (configuration file, published record), and at last ``image_size`` together with the window.

    Raises:
        MissingWindow: nobody tells the window of a bias network; the sentence says what to pass.
        ValueError: nobody tells the window of the tables.
    """
    fields = {**found.fields, **{name: overrides[name] for name in UNTOLD if name in overrides}}
    if found.fields["position_bias"] == "table":
        fields["position_bias"] = "table"
        window = _first(
            _whole(found.windows),
            overrides.get("trained_window_size"),
            _hinted(hints, "window_size"),
            _whole(found.square_windows),
        )
        if window is None:
            raise ValueError(
                "The weights' bias tables fit several windows: pass trained_window_size, the window they were made for."
            )
        return SwinConfig(**fields, window_size=window)
    size, hinted = _first(overrides.get("image_size"), _hinted(hints, "image_size")), _hinted(hints, "window_size")
    window = _first(_whole(found.windows), _shrunk(fields, hinted, size), hinted)
    trained = _first(
        overrides.get("trained_window_size"),
        _whole(found.trained_windows),
        _hinted(hints, "trained_window_size"),
        _shrunk(fields, _first(window, overrides.get("window_size")), size),
    )
    if trained is None:
        raise MissingWindow(
            "The weights do not tell the window they were trained at, which fixes their position bias: pass "
            "trained_window_size, or window_size and the training image_size."
        )
    return SwinConfig(**fields, window_size=_first(window, trained), trained_window_size=trained)


def wanted_config(stored: SwinConfig, overrides: Mapping[str, Any]) -> SwinConfig:
    """``stored`` with overrides; trained windows never follow the window.

    Raises:
        ValueError: an unknown field, or a configuration that cannot be.
    """
    known = {field.name for field in dataclasses.fields(SwinConfig)}
    for name in overrides:
        if name not in known | {"image_size"}:
            raise ValueError(f"SwinConfig has no field {name!r}{did_you_mean(name, known)}.")
    changes = {name: value for name, value in overrides.items() if name in known and value is not None}
    if tuple(changes.get("depths", stored.depths)) != stored.depths:  # before windows of other stages are complained of
        raise ValueError(f"The weights have depths {stored.depths}, not {changes['depths']!r}: take other weights.")
    if isinstance(changes.get("patch_size"), int):
        changes["patch_size"] = (changes["patch_size"],) * stored.ndim
    if "patch_size" in changes and len(changes["patch_size"]) > stored.ndim:
        return _video(stored, changes)
    if stored.position_bias == "table" and "window_size" in changes:  # a table fits no window but its own
        changes["trained_window_size"] = None
    elif stored.position_bias == "table":
        changes.pop("trained_window_size", None)
    return dataclasses.replace(stored, **changes)


def _video(image: SwinConfig, changes: Mapping[str, Any]) -> SwinConfig:
    """Clips of an image model: windows gain a number along time, in front."""
    if "window_size" not in changes:
        raise ValueError("A clip needs its window along time too: pass window_size, such as (8, 8, 8).")
    changes = {"merge_size": (1,) + (2,) * image.ndim, **changes}
    told = changes.pop("trained_window_size", None)  # of the image, by now in its configuration, or of the clip
    clip = SwinConfig.from_dict({**image.to_dict(), **changes, "trained_window_size": None})
    if image.position_bias == "table":
        return clip
    spread = dataclasses.replace(image, trained_window_size=told) if told is not None else image
    trained = tuple((w[0], *t) for w, t in zip(clip.window_size, spread.trained_window_size, strict=True))
    return dataclasses.replace(clip, trained_window_size=trained)


def merged_info(source: str, hints: Sequence[Hints], stored: SwinConfig) -> ModelInfo:
    """Classes and preprocessing of the first hint that knows them."""
    infos = [hint.info for hint in hints]
    classes = next((info.classes for info in infos if len(info.classes) == stored.num_classes), ())
    preprocessing = next((info.preprocessing for info in infos if info.preprocessing), None)
    extra = {key: value for info in reversed(infos) for key, value in info.extra.items()}
    return ModelInfo(classes=classes, preprocessing=preprocessing, source=source, extra=extra)


def _whole(windows: Sequence[Any]) -> Any:
    """All stages' windows, if each is known."""
    return tuple(windows) if windows and None not in windows else None


def _hinted(hints: Sequence[Hints], name: str) -> Any:
    return _first(*(getattr(hint, name) for hint in hints))


def _shrunk(fields: Mapping[str, Any], window: WindowSpec | None, size: Any) -> Any:
    """The window as a peer runs it, never larger than the map at the image size that its model is built for."""
    if window is None or size is None:
        return None
    config = SwinConfig.from_dict({**fields, "window_size": window})
    return trained_windows(config, spread_image_size(config, size))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
