"""Models as folders and repositories of the Hugging Face hub, by huggingface_hub's mixin.

A folder holds model.safetensors in our own format, which alone rebuilds the model; config.json and README.md, the
model card, are for people and for the hub. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin
from torch import nn

from swinv2.config import VARIANTS, Axes, SwinConfig
from swinv2.download import repository
from swinv2.files import written_aside
from swinv2.info import ModelInfo
from swinv2.storage import Stored, write

if TYPE_CHECKING:
    from swinv2.model.backbone import SwinTransformer

WEIGHTS, CONFIG = "model.safetensors", "config.json"

CARD = """\
---
{{ card_data }}
---

# {{ title }}

{{ about }}

| | |
|---|---|
{%- for name, value in facts %}
| {{ name }} | {{ value }} |
{%- endfor %}

## Use

```python
import torch
import swinv2

model = swinv2.SwinTransformer.from_pretrained("{{ repo_id | default(".", true) }}")
output = model(torch.randn({{ example }}))
print(output.shape)
```

`from_pretrained` takes any field of the configuration, such as `num_classes=10` for a fresh head or `window_size=16`:
position biases transfer to another window, and the trained windows stay. The input may have any size.
"""


class HubMixin(
    ModelHubMixin,
    nn.Module,
    library_name="swinv2",
    tags=["swin-transformer"],
    paper_url="https://huggingface.co/papers/2111.09883",
    model_card_template=CARD,
):
    """Gives a model `save_pretrained`, `from_pretrained` and `push_to_hub`."""

    config: SwinConfig
    info: ModelInfo

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **overrides: Any,
    ) -> SwinTransformer:
        """A model from a folder or the hub, in evaluation mode on the CPU.

        Args:
            pretrained_model_name_or_path: a folder of `save_pretrained`, or a repository of `push_to_hub`; whatever
                else `swinv2.load` reads works too, such as the name of published weights.
            force_download: download even what is in the cache.
            token: for private repositories.
            cache_dir: instead of the hub's own cache.
            local_files_only: use the cache alone.
            revision: branch, tag or commit.
            overrides: as for `swinv2.load`, such as ``num_classes`` or ``window_size``.

        Raises:
            DownloadError: the repository cannot be had.
            ValueError: it holds no weights of a Swin Transformer, or the overrides do not fit.
        """
        import swinv2  # the model knows no file formats: reading them is the package's business, at run time

        source = os.fspath(pretrained_model_name_or_path)
        if not os.path.exists(source) and source.count("/") == 1 and source[0] not in "./~":
            source = repository(
                source,
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                revision=revision,
            ).as_posix()
        return swinv2.load(source, **overrides)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model and its card to the hub, and return the URL of the commit.

        Args:
            repo_id: such as ``"somebody/my-swin"``; it is made if it does not exist.
            options: of `huggingface_hub.ModelHubMixin.push_to_hub`: private, token, branch, commit_message and so on.
                ``model_card_kwargs={"licence": "mit"}`` states the licence.
        """
        options["model_card_kwargs"] = {"repo_id": repo_id, **(options.get("model_card_kwargs") or {})}
        return super().push_to_hub(repo_id, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in self.state_dict().items()}
        write(save_directory / WEIGHTS, Stored(self.config, tensors, self.info))
        with written_aside(save_directory / CONFIG) as aside:
            aside.write_text(json.dumps(self.config.to_dict(), indent=2) + "\n", encoding="utf-8")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card: README.md of the folder. ``licence`` and ``repo_id`` may be given; both may stay unknown."""
        licence = kwargs.pop("licence", None) or self.info.extra.get("licence")
        common = self._hub_mixin_info.model_card_data
        data = ModelCardData(
            license=licence, library_name=common.library_name, pipeline_tag=_task(self.config), tags=common.tags
        )
        return ModelCard.from_template(
            data,
            template_str=CARD,
            title=variant_of(self.config) or "Swin Transformer",
            about=_about(self.config),
            facts=_facts(self, licence),
            example=", ".join(map(str, _example(self.config, self.info))),
            **kwargs,
        )


def variant_of(config: SwinConfig) -> str | None:
    """Name of the variant of this architecture, whatever its windows, head and input channels."""
    free = {"window_size", "trained_window_size", "num_classes", "in_channels", "drop_path_rate"}
    fixed = [field.name for field in dataclasses.fields(SwinConfig) if field.name not in free]
    alike = (
        name
        for name, variant in VARIANTS.items()
        if all(getattr(variant, field) == getattr(config, field) for field in fixed)
    )
    return next(alike, None)


def _task(config: SwinConfig) -> str:
    kind = "video" if config.ndim == 3 else "image"
    return f"{kind}-classification" if config.num_classes else f"{kind}-feature-extraction"


def _about(config: SwinConfig) -> str:
    version = "V2" if config.attention_score == "cosine" else "V1"
    papers = {
        "V2": "[2111.09883](https://arxiv.org/abs/2111.09883)",
        "V1": "[2103.14030](https://arxiv.org/abs/2103.14030)",
    }
    what = f"a classifier of {config.num_classes} classes" if config.num_classes else "a backbone without a head"
    return f"Swin Transformer {version} (arXiv {papers[version]}), {what}."


def _facts(model: HubMixin, licence: str | None) -> list[tuple[str, str]]:
    config, info = model.config, model.info
    given = info.preprocessing
    return [
        ("parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}"),
        ("width, depths, heads", f"{config.embed_dim}, {_list(config.depths)}, {_list(config.num_heads)}"),
        ("patch", _times(config.patch_size)),
        ("windows", _windows(config.window_size)),
        ("trained windows", _windows(config.trained_window_size)),
        ("classes", _classes(config, info)),
        (
            "input",
            f"{config.in_channels} channels"
            if given is None
            else f"{config.in_channels} channels, {_times(given.size)}",
        ),
        (
            "preprocessing",
            "not stated"
            if given is None
            else (
                f"resize to {_times(given.size)} / {given.crop_fraction:g} ({given.interpolation}), centre crop, "
                f"mean {_list(given.mean)}, std {_list(given.std)}"
            ),
        ),
        ("licence", licence or "not stated"),
        ("origin", ", ".join([info.source, *([info.extra["weights"]] if "weights" in info.extra else [])])),
    ]


def _classes(config: SwinConfig, info: ModelInfo) -> str:
    if not info.classes:
        return f"{config.num_classes}, without names" if config.num_classes else "none"
    names = ", ".join(info.classes[:5]).replace("|", "\\|")
    return f"{len(info.classes)}: {names}{', ...' if len(info.classes) > 5 else ''}"


def _example(config: SwinConfig, info: ModelInfo) -> Axes:
    """Shape of an input to try."""
    size = info.preprocessing.size if info.preprocessing else (2 * config.strides[-1][-1],) * 2
    frames = (2 * config.patch_size[0],) if config.ndim == 3 else ()
    return (1, config.in_channels, *frames, *size[: config.ndim])


def _windows(windows: Sequence[Axes]) -> str:
    return ", ".join(map(_times, windows))


def _times(numbers: Sequence[int]) -> str:
    return "x".join(map(str, numbers))


def _list(numbers: Sequence[float]) -> str:
    return " ".join(map(str, numbers))
