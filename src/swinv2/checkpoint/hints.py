"""What stands beside the tensors and tells windows, resolution, classes and preprocessing: configurations of other
libraries, read as plain data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swinv2.config import Axes, SwinConfig, WindowSpec
from swinv2.info import ModelInfo
from swinv2.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What one source says; None where it says nothing."""

    window_size: WindowSpec | None = None
    trained_window_size: WindowSpec | None = None
    image_size: Axes | None = None
    config: SwinConfig | None = None
    info: ModelInfo = field(default_factory=ModelInfo)


def of_config(config: SwinConfig, info: ModelInfo, image_size: Axes | None = None) -> Hints:
    """From our own metadata in a file of another format, or from a published record."""
    return Hints(
        window_size=config.window_size,
        trained_window_size=config.trained_window_size,
        image_size=image_size,
        config=config,
        info=info,
    )


def fitting(hints: Sequence[Hints], fields: Mapping[str, Any]) -> tuple[Hints, ...]:
    """Hints without those of another architecture, as a misnamed file's record is."""
    sizes = ("embed_dim", "depths", "num_heads")
    return tuple(h for h in hints if h.config is None or all(getattr(h.config, name) == fields[name] for name in sizes))


def from_transformers(config: Mapping[str, Any], processor: Mapping[str, Any]) -> Hints:
    """From a folder's config.json and preprocessor_config.json.

    Raises:
        ValueError: the model uses what no published Swin does.
    """
    for name in ("use_absolute_embeddings", "hidden_dropout_prob", "attention_probs_dropout_prob"):
        if config.get(name):
            raise ValueError(f"config.json sets {name} to {config[name]!r}, which this library does not have.")
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"config.json sets hidden_act to {config['hidden_act']!r}, but Swin here has 'gelu' only.")
    if config.get("layer_norm_eps", NORM_EPS) != NORM_EPS:
        raise ValueError(f"config.json sets layer_norm_eps to {config['layer_norm_eps']!r}, but here it is {NORM_EPS}.")
    trained = [size for size in config.get("pretrained_window_sizes") or () if size]
    size = _size(config.get("image_size", 224))
    names = config.get("id2label") or {}
    classes = [str(names[key]) for key in sorted(names, key=int)]
    known = classes and not all(name.startswith("LABEL_") for name in classes)
    return Hints(
        window_size=_window(config.get("window_size", 7)),
        trained_window_size=_nested(config["pretrained_window_sizes"]) if trained else None,
        image_size=size,
        info=ModelInfo(
            classes=tuple(classes) if known else (), preprocessing=_processor(processor, size) if processor else None
        ),
    )


def from_timm(config: Mapping[str, Any]) -> tuple[str, Hints]:
    """Name of a record, and what the pretrained_cfg in a folder's config.json tells."""
    cfg = config.get("pretrained_cfg") or config
    size = _size((cfg.get("input_size") or (3, 224, 224))[1:])
    preprocessing = Preprocessing(
        size=size,
        mean=tuple(cfg.get("mean", (0.485, 0.456, 0.406))),
        std=tuple(cfg.get("std", (0.229, 0.224, 0.225))),
        crop_fraction=float(cfg.get("crop_pct", 0.9)),
        interpolation=cfg.get("interpolation", "bicubic"),
    )
    arguments = config.get("model_args") or {}
    tag = cfg.get("tag") or ""
    name = f"{config.get('architecture', '')}{'.' if tag else ''}{tag}"
    window = arguments.get("window_size")
    classes = tuple(cfg.get("label_names") or ())
    info = ModelInfo(classes=classes, preprocessing=preprocessing)
    return name, Hints(window_size=_window(window) if window else None, image_size=size if window else None, info=info)


def from_yacs(config: Mapping[str, Any]) -> Hints:
    """From the configuration that Microsoft's training code puts into its checkpoints."""
    model = config.get("MODEL") or {}
    part: Mapping[str, Any] = model.get(str(model.get("TYPE", "")).upper()) or {}
    trained = part.get("PRETRAINED_WINDOW_SIZES") or ()
    size = (config.get("DATA") or {}).get("IMG_SIZE")
    window = part.get("WINDOW_SIZE")
    return Hints(
        window_size=_window(window) if window else None,
        trained_window_size=_nested(trained) if any(trained) else None,
        image_size=_size(size) if size else None,
    )


def _nested(windows: Iterable[Any]) -> tuple[Axes, ...]:
    """One number a stage, nested so that it cannot be taken for one per axis."""
    return tuple((int(w), int(w)) if isinstance(w, int) else tuple(w) for w in windows)


def _window(window: Any) -> WindowSpec:
    """A number, one per axis (nested, so that it cannot be taken for one per stage), or one per stage."""
    if isinstance(window, int):
        return window
    if isinstance(window, str):
        raise TypeError(f"a window is a number or a list of numbers, not {window!r}")
    return (tuple(window),) if len(window) == 2 else tuple(window)


def _size(size: Any) -> Axes:
    return (size, size) if isinstance(size, int) else tuple(int(s) for s in size)


NORM_EPS = 1e-5
"""Of every LayerNorm in every released model."""
_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def _processor(processor: Mapping[str, Any], size: Axes) -> Preprocessing | None:
    """What an image processor of transformers does, where it is a resize and a normalisation; None where it is not."""
    plain = processor.get("do_normalize", True) and not processor.get("do_center_crop")
    interpolation = _PILLOW.get(processor.get("resample", 3))
    wanted = processor.get("size", {})
    if isinstance(wanted, int):
        wanted = {"height": wanted, "width": wanted}
    if not plain or interpolation is None or "image_mean" not in processor or not {"height", "width"} >= wanted.keys():
        return None
    return Preprocessing(
        size=(int(wanted.get("height", size[0])), int(wanted.get("width", size[1]))),
        mean=tuple(map(float, processor["image_mean"])),
        std=tuple(map(float, processor["image_std"])),
        interpolation=interpolation,
    )
