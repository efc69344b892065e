"""transformers finds our backbones after ``import swinv2.integrations.transformers``.

The model type is ``swinv2lib``, since transformers has its own ``swinv2``. ``AutoConfig``, ``AutoBackbone`` and
``AutoModel`` know it, and so do models that take a ``backbone_config``, such as UperNet or Mask2Former.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from swinv2.config import SwinConfig
from swinv2.model.block import Residual
from swinv2.model.features import SwinBackbone
from swinv2.model.init import init_weights

MODEL_TYPE = "swinv2lib"


class SwinBackboneConfig(BackboneConfigMixin, PreTrainedConfig):  # type: ignore[no-untyped-call]
    """A `SwinBackbone` as transformers describes one.

    Args:
        swin: the architecture, a `SwinConfig` or its ``to_dict()``; by default tiny V2.
        out_features: stages whose maps to return, by name, "stage1" being the first; by default the last one.
        out_indices: the same by index into ``stage_names``, so that 0 is "stage1". (Indices into transformers' own Swin
            count its patch embedding as 0.)
        out_norm: a LayerNorm on each map.
        frozen_stages: stages to freeze, with the patch embedding; 0 for nothing.
        kwargs: what every configuration of transformers takes.

    Raises:
        ValueError: an architecture that cannot be built, or stages that do not exist.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        swin: SwinConfig | Mapping[str, Any] | None = None,
        out_features: Sequence[str] | None = None,
        out_indices: Sequence[int] | None = None,
        out_norm: bool = True,
        frozen_stages: int = 0,
        **kwargs: Any,
    ) -> None:
        config = swin if isinstance(swin, SwinConfig) else SwinConfig.from_dict(swin or {})
        self.swin = config.to_dict()
        self.out_norm = out_norm
        self.frozen_stages = frozen_stages
        self.stage_names = [f"stage{number}" for number in range(1, config.num_stages + 1)]
        super().__init__(**kwargs)
        self.set_output_features_output_indices(
            out_features=None if out_features is None else list(out_features),
            out_indices=None if out_indices is None else list(out_indices),
        )


class SwinBackboneModel(BackboneMixin, PreTrainedModel):  # type: ignore[no-untyped-call]
    """A `SwinBackbone`, under ``backbone``, with the interface of transformers' backbones.

    Args:
        config: the architecture and the stages asked for; only what these need is built.
    """

    config_class = SwinBackboneConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: SwinBackboneConfig) -> None:
        super().__init__(config)
        swin = SwinConfig.from_dict(config.swin)
        self.num_features = list(swin.dims)
        self.backbone = SwinBackbone(
            swin, config.out_indices, out_norm=config.out_norm, frozen_stages=config.frozen_stages
        )
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def wrap(cls, backbone: SwinBackbone) -> SwinBackboneModel:
        """Put a backbone with its weights, shared and not copied, into transformers' clothes.

        Raises:
            ValueError: its outputs are not in the order of the stages, as transformers demands.
        """
        config = SwinBackboneConfig(
            backbone.config,
            out_indices=backbone.out_indices,
            out_norm=bool(backbone.norms),
            frozen_stages=backbone.frozen_stages,
        )
        with torch.device("meta"):
            model = cls(config)
        model.backbone = backbone
        return model.train(backbone.training)

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BackboneOutput | tuple[tuple[Tensor, ...]]:
        """Maps ``[B, C, *grid]`` of images ``[B, C_in, *size]``, as ``feature_maps`` of the output.

        Raises:
            ValueError: hidden states or attentions are asked for, or ``out_features`` changed after construction.
        """
        if output_hidden_states or output_attentions:
            raise ValueError("This backbone gives no hidden states or attentions: ask for maps by out_features.")
        if self.out_features != [self.stage_names[i] for i in self.backbone.out_indices]:
            raise ValueError(f"out_features are now {self.out_features}, but only those given at the start are built.")
        maps = tuple(self.backbone(pixel_values))
        as_tuple = return_dict is False or (return_dict is None and not self.config.return_dict)
        return (maps,) if as_tuple else BackboneOutput(feature_maps=maps)

    def _init_weights(self, module: nn.Module) -> None:
        """Start what a checkpoint lacks as we do, module by module; transformers shields what it loaded."""
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            module.reset_parameters()
        elif any(True for _ in module.parameters(recurse=False)):
            init_weights(module)
            residuals = (residual for residual in self.modules() if isinstance(residual, Residual))
            if isinstance(module, nn.LayerNorm) and any(module is x.norm_branch for x in residuals):
                nn.init.zeros_(module.weight)


AutoConfig.register(MODEL_TYPE, SwinBackboneConfig)
AutoBackbone.register(SwinBackboneConfig, SwinBackboneModel)
AutoModel.register(SwinBackboneConfig, SwinBackboneModel)  # AutoBackbone.from_pretrained takes hub ids only, no folder
