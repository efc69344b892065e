"""How several processes share one training: what each keeps, and how the parts become one file again.

A strategy is asked for by the recipe; with a single process there is nothing to share, and none is used.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from swinv2.model import Native
from swinv2.model.block import SwinBlock
from swinv2.tasks.models import make_model
from swinv2.train.engine_options import TrainerOptions

LOST = re.compile(r"onnection (closed|reset|refused)|broken pipe|gloo|NCCL|ProcessGroup", re.IGNORECASE)
"""What torch says where another process is gone."""


class Sharded(ModelParallelStrategy):
    """FSDP2, whose checkpoint is a link to a folder of one part a process: it changes at once or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write a new folder beside the old one, then let the link point to it."""
        link = Path(filepath)
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(self.broadcast(tempfile.mkdtemp(prefix=f".{link.stem}.", dir=link.parent) if _first() else ""))
        super().save_checkpoint(checkpoint, fresh)
        self.barrier()
        if _first():
            old = link.resolve() if link.is_symlink() else None
            fresh.chmod(link.parent.stat().st_mode & 0o777)
            aside = fresh.with_suffix(".link")
            aside.symlink_to(fresh.name)
            os.replace(aside, link)
            if old is not None:
                shutil.rmtree(old)


def _first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def processes(options: TrainerOptions) -> int:
    """How many processes will train together."""
    if "WORLD_SIZE" in os.environ and "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return _devices(options) * options.nodes


def _devices(options: TrainerOptions) -> int:
    if options.devices != "auto":
        return options.devices
    return torch.accelerator.device_count() or 1 if options.accelerator != "cpu" else 1


def placement(options: TrainerOptions) -> dict[str, Any]:
    """Devices and machines as Lightning wants them; where torchrun started the processes, it has decided."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return {"devices": local, "num_nodes": int(os.environ["WORLD_SIZE"]) // local}
    return {"devices": options.devices, "num_nodes": options.nodes}


def make_strategy(options: TrainerOptions) -> Strategy | str:
    """The recipe's strategy for Lightning's Trainer.

    Raises:
        ValueError: It needs a package that is missing.
    """
    world = processes(options)
    if options.strategy == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        raise ValueError("trainer.strategy deepspeed needs DeepSpeed: pip install deepspeed, or use zero1 without it.")
    if world == 1:
        return "auto"
    if options.strategy == "deepspeed":
        return "deepspeed_stage_1"
    if options.strategy == "fsdp":
        return Sharded(data_parallel_size=world, tensor_parallel_size=1)
    return DDPStrategy(gradient_as_bucket_view=True)


def make_adamw(groups: list[dict[str, Any]], options: TrainerOptions, **settings: Any) -> Optimizer:
    """AdamW, whose moments zero1 divides among the processes by whole parameters."""
    if options.strategy == "zero1" and dist.is_initialized() and dist.get_world_size() > 1:
        return ZeroRedundancyOptimizer(groups, optimizer_class=AdamW, **settings)
    return AdamW(groups, **settings)


def shard_when_ready(task: LightningModule, model: nn.Module) -> None:
    """Let Lightning divide a task's model, by block, once the processes know each other."""

    def configure_model() -> None:
        if not isinstance(model, FSDPModule):
            mesh = task.device_mesh["data_parallel"]  # type: ignore[index]
            for module in model.modules():
                if isinstance(module, SwinBlock):
                    fully_shard(module, mesh=mesh)
            fully_shard(model, mesh=mesh)

    task.configure_model = configure_model  # type: ignore[method-assign]


def whole(model: Native) -> Native:
    """The model itself, or, of one divided among processes, a copy with all weights, on the CPU of the first.

    Every process must call it.
    """
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    with torch.device("meta"):
        copy = make_model(model.kind, model.config, model.head_config)
    copy.info = model.info
    if weights:
        copy.load_state_dict(weights, assign=True)
    return copy


def lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process of the training is gone."""
    return isinstance(error, RuntimeError) and dist.is_initialized() and LOST.search(str(error)) is not None


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process keeps."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
