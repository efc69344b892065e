"""Architecture as plain data: `SwinConfig`, the table of published variants, and nothing that needs torch.

Every size is a tuple with one number per axis, and that tuple's length is the number of axes: a patch of ``(4, 4)``
makes an image model, ``(2, 4, 4)`` a video model. V1, V2 and the paper's ablations differ in explicit fields, never
by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

Axes = tuple[int, ...]
Stages = tuple[Axes, ...]
WindowSpec = int | Sequence[int] | Sequence[int | Sequence[int]]

NormPlacement = Literal["pre", "sandwich", "post", "res_post"]
AttentionScore = Literal["dot", "cosine"]
PositionBiasKind = Literal["table", "linear_cpb", "log_cpb"]
MergeNorm = Literal["before", "after"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """One Swin architecture (arXiv 2111.09883, section 3; V1: arXiv 2103.14030).

    Window fields accept one number, one number per axis, or one entry (number or tuple) per stage (a single nested
    entry serves all), and are stored as one tuple of axes per stage. `ValueError` is raised, with the remedy, for
    anything that cannot be built.
    """

    embed_dim: int = 96
    """Channels of the first stage; each further stage has twice as many."""
    depths: Axes = (2, 2, 6, 2)
    """Blocks in each stage."""
    num_heads: Axes = (3, 6, 12, 24)
    """Attention heads in each stage."""
    patch_size: Axes = (4, 4)
    """Pixels (frames first, for video) in a patch; its length is the number of axes."""
    window_size: Stages = 8  # type: ignore[assignment]  # normalised to one tuple of axes per stage
    """Attention window of each stage, in tokens."""
    trained_window_size: Stages = None  # type: ignore[assignment]  # None: the window itself
    """Window at which the bias network was first trained; it normalises the coordinates and never changes."""
    in_channels: int = 3
    """Channels of the input."""
    num_classes: int = 1000
    """Classes of the head; 0 for no head."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over the block's width."""
    norm_placement: NormPlacement = "res_post"
    """Where a branch is normalised: pre | sandwich | post | res_post (paper, Tables 6 and 7)."""
    attention_score: AttentionScore = "cosine"
    """Similarity of query and key: dot | cosine (paper, eq. 2)."""
    position_bias: PositionBiasKind = "log_cpb"
    """Relative position bias: table | linear_cpb | log_cpb (paper, Table 1)."""
    key_bias: bool = False
    """Whether the key projection has a bias (V1 True, V2 False)."""
    merge_norm: MergeNorm = "after"
    """Patch merging normalises before its reduction, over 4C (V1), or after it, over 2C (V2)."""
    merge_size: Axes = None  # type: ignore[assignment]  # None: 2 on every axis
    """Tokens merged on each axis between stages; video never merges time."""
    extra_norm_interval: int = 0
    """A LayerNorm on the main branch after every n-th block of a stage (H and G: 6); 0 for none."""
    drop_path_rate: float = 0.0
    """Stochastic depth of the last block; it rises linearly from 0 over all blocks."""

    def __post_init__(self) -> None:
        def store(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("depths", "num_heads", "patch_size"):
            store(name, _axes(name, getattr(self, name)))
        merge = (2,) * self.ndim if self.merge_size is None else self.merge_size
        store("merge_size", _axes("merge_size", merge))
        store("window_size", _per_stage("window_size", self.window_size, self.num_stages, self.ndim))
        trained = self.window_size if self.trained_window_size is None else self.trained_window_size
        store("trained_window_size", _per_stage("trained_window_size", trained, self.num_stages, self.ndim))
        self._check()

    def _check(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(map(repr, choices))}."
                )
        if len(self.num_heads) != self.num_stages:
            raise ValueError(
                f"num_heads {self.num_heads} has {len(self.num_heads)} entries for {self.num_stages} stages "
                f"(depths {self.depths}): give one entry per stage in both."
            )
        if len(self.merge_size) != self.ndim:
            raise ValueError(
                f"merge_size {self.merge_size} must have {self.ndim} entries, as patch_size {self.patch_size} has."
            )
        if self.ndim > 3:
            raise ValueError(f"patch_size {self.patch_size} has {self.ndim} axes, but 1 to 3 are possible.")
        for name in ("mlp_ratio", "drop_path_rate"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r}, but must be a number.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least {least}.")
        if self.embed_dim * self.mlp_ratio < 1:
            raise ValueError(f"mlp_ratio is {self.mlp_ratio}, which leaves the MLP no width: 4 is usual.")
        if not 0.0 <= self.drop_path_rate < 1.0:
            raise ValueError(f"drop_path_rate is {self.drop_path_rate}, but must lie in [0, 1).")
        for stage, (dim, heads) in enumerate(zip(self.dims, self.num_heads, strict=True), start=1):
            if dim % heads:
                raise ValueError(
                    f"stage {stage} has {dim} channels, which {heads} heads do not divide: "
                    f"choose num_heads that divide {self.dims}."
                )

    @property
    def ndim(self) -> int:
        """Number of axes: 2 for images, 3 for video."""
        return len(self.patch_size)

    @property
    def num_stages(self) -> int:
        """Number of stages."""
        return len(self.depths)

    @property
    def dims(self) -> Axes:
        """Channels of each stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(self.num_stages))

    @property
    def num_features(self) -> int:
        """Channels of the last stage."""
        return self.dims[-1]

    @property
    def strides(self) -> Stages:
        """Pixels per token of each stage, one number per axis."""
        return tuple(
            tuple(p * m**stage for p, m in zip(self.patch_size, self.merge_size, strict=True))
            for stage in range(self.num_stages)
        )

    def grids(self, image_size: Axes) -> Stages:
        """Size of each stage's map, in tokens, for an input of ``image_size``; every division rounds up."""
        grid, grids = _ceil_div(image_size, self.patch_size), []
        for _ in self.depths:
            grids.append(grid)
            grid = _ceil_div(grid, self.merge_size)
        return tuple(grids)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` turns back into an equal configuration."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SwinConfig:
        """Build from plain data, lists allowed for tuples; unknown names are refused."""
        known = {field.name for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                raise ValueError(f"SwinConfig has no field {name!r}{did_you_mean(name, known)}.")
        return cls(**fields)


_CHOICES: dict[str, tuple[str, ...]] = {
    "norm_placement": get_args(NormPlacement),
    "attention_score": get_args(AttentionScore),
    "position_bias": get_args(PositionBiasKind),
    "merge_norm": get_args(MergeNorm),
}
_LEAST = {"embed_dim": 1, "in_channels": 1, "num_classes": 0, "extra_norm_interval": 0}

_V1: dict[str, Any] = {
    "norm_placement": "pre",
    "attention_score": "dot",
    "position_bias": "table",
    "key_bias": True,
    "merge_norm": "before",
}
_VIDEO: dict[str, Any] = {"patch_size": (2, 4, 4), "merge_size": (1, 2, 2)}

# Each family: what distinguishes it, and the input size (frames first) it is trained at unless told otherwise.
_FAMILIES: dict[str, tuple[dict[str, Any], Axes]] = {
    "swin": ({**_V1, "window_size": 7}, (224, 224)),
    "swinv2": ({"window_size": 8}, (256, 256)),
    "swin_video": ({**_V1, **_VIDEO, "window_size": (8, 7, 7)}, (16, 224, 224)),
    "swinv2_video": ({**_VIDEO, "window_size": (8, 8, 8)}, (16, 256, 256)),
}

# embed_dim, depths, num_heads, and V2's extra_norm_interval. nano and micro are ours, for CPUs and small images.
_SIZES: dict[str, tuple[int, Axes, Axes, int]] = {
    "nano": (32, (2, 2, 2, 2), (1, 2, 4, 8), 0),
    "micro": (64, (2, 2, 2, 2), (2, 4, 8, 16), 0),
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 0),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 0),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 0),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 0),
    "huge": (352, (2, 2, 18, 2), (11, 22, 44, 88), 6),
    "giant": (512, (2, 2, 42, 4), (16, 32, 64, 128), 6),
}

_NAMES = tuple(
    f"{family}_{size}"
    for family in _FAMILIES
    for size in _SIZES
    if family.startswith("swinv2") or size not in ("nano", "micro")
)


def _recipe(name: str) -> tuple[dict[str, Any], Axes]:
    """Fields and training input size of a variant, before any override."""
    if name not in _NAMES:
        raise ValueError(f"There is no model {name!r}{did_you_mean(name, _NAMES)}; `swinv2 models` lists them all.")
    family, _, size = name.rpartition("_")
    fields, image_size = _FAMILIES[family]
    embed_dim, depths, num_heads, interval = _SIZES[size]
    extra = {"extra_norm_interval": interval} if family.startswith("swinv2") else {}
    return {**fields, **extra, "embed_dim": embed_dim, "depths": depths, "num_heads": num_heads}, image_size


def make_config(
    name: str, *, window_size: WindowSpec | None = None, image_size: int | Sequence[int] | None = None, **overrides: Any
) -> SwinConfig:
    """Configuration of a variant with overrides (any field of `SwinConfig`).

    ``image_size`` is the resolution at which the weights are (to be) trained, one number for both axes of an image or
    one per axis (frames, height, width). The trained windows follow from it: ``min(window, map)`` on each axis of each
    stage, unless ``trained_window_size`` is given. It does not limit the input: a model takes any size.
    """
    fields, default_size = _recipe(name)
    fields.update({field: value for field, value in overrides.items() if value is not None})
    if window_size is not None:
        fields["window_size"] = window_size
    if isinstance(fields.get("patch_size"), int):
        fields["patch_size"] = (fields["patch_size"],) * len(default_size)
    config = SwinConfig.from_dict(fields)
    if "trained_window_size" in fields:
        return config
    size = spread_image_size(config, default_size if image_size is None else image_size)
    return dataclasses.replace(config, trained_window_size=trained_windows(config, size))


def default_image_size(name: str) -> Axes:
    """Input size, frames first, at which a variant is trained unless told otherwise."""
    return _recipe(name)[1]


def trained_windows(config: SwinConfig, image_size: Axes) -> Stages:
    """Window that each stage really has when trained at ``image_size``: never larger than its map."""
    return tuple(
        tuple(map(min, window, grid)) for window, grid in zip(config.window_size, config.grids(image_size), strict=True)
    )


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows and that match a shell pattern such as ``"swinv2_*"``."""
    return fnmatch.filter(VARIANTS, pattern)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as ``" (the nearest is 'swinv2_tiny')"``, or nothing where nothing is near."""
    nearest = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (the nearest is {nearest[0]!r})" if nearest else ""


def _ceil_div(size: Axes, divisor: Axes) -> Axes:
    return tuple(-(-s // d) for s, d in zip(size, divisor, strict=True))


def spread_image_size(config: SwinConfig, size: int | Sequence[int]) -> Axes:
    """One number per axis; a single one serves both axes of an image."""
    if isinstance(size, int) and config.ndim == 2:
        size = (size, size)
    if isinstance(size, int) or len(size) != config.ndim:
        raise ValueError(f"image_size is {size!r}, but this model has {config.ndim} axes: give one number per axis.")
    return _axes("image_size", size)


def _axes(name: str, value: object) -> Axes:
    """A non-empty tuple of positive integers, or a ValueError that names the field."""
    entries = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not entries or not all(isinstance(entry, int) and entry >= 1 for entry in entries):
        raise ValueError(f"{name} is {value!r}, but must be a tuple of positive whole numbers such as (4, 4).")
    return entries


def _per_stage(name: str, value: object, stages: int, axes: int) -> Stages:
    """Spread one number, one per axis, or one entry per stage to a tuple of axes for every stage."""
    if isinstance(value, int):
        value = ((value,) * axes,) * stages
    entries = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if all(isinstance(entry, int) for entry in entries):
        if len(entries) == stages == axes:
            raise ValueError(
                f"{name} {entries} could mean one number per stage or one per axis: nest it, "
                f"as {tuple((entry,) * axes for entry in entries)} or {(entries,) * stages}."
            )
        entries = (entries,) * stages if len(entries) == axes else entries
    elif len(entries) == 1:
        entries *= stages
    if len(entries) != stages:
        raise ValueError(
            f"{name} is {value!r}, but must be one number, one per axis ({axes}), or one entry per stage ({stages})."
        )
    nested = tuple(_axes(name, (entry,) * axes if isinstance(entry, int) else entry) for entry in entries)
    if any(len(entry) != axes for entry in nested):
        raise ValueError(f"{name} is {value!r}, but each stage's entry must have {axes} numbers, one per axis.")
    return nested


VARIANTS: dict[str, SwinConfig] = {name: make_config(name) for name in _NAMES}
"""Every named variant at its default window and resolution."""
