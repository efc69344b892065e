"""One safetensors file from a checkpoint, however many processes wrote it.

    python -m swinv2.train.consolidate runs/big/checkpoints/last.ckpt big.safetensors

`best.safetensors` of a run folder is whole anyway; this is for the last weights, as after a run that was cut off. It
needs one process, no GPU, and memory for the weights alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load

from swinv2.checkpoint import save
from swinv2.storage import encoder_kind, parse_kind, parse_metadata
from swinv2.tasks.models import make_model

DETAILS = "meta.pt"
"""Where Lightning puts what is no weight and no optimiser state, in a folder of parts."""
WEIGHTS = "state_dict.model."


def read_details(checkpoint: Path) -> dict[str, Any]:
    """All of a checkpoint but, where it is a folder of parts, weights and optimiser states.

    Raises:
        ValueError: It is no checkpoint of `swinv2 train`.
    """
    file = checkpoint / DETAILS if checkpoint.is_dir() else checkpoint
    if not file.is_file():
        raise ValueError(f"{checkpoint} is no checkpoint of swinv2 train: give its checkpoints/last.ckpt.")
    details: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return details


def consolidate(checkpoint: Path, path: Path) -> None:
    """Write the weights of a checkpoint, the moving average where there is one, as our own safetensors.

    Raises:
        ValueError: It is no checkpoint of `swinv2 train`.
        OSError: The file cannot be written.
    """
    details = read_details(checkpoint)
    if "model" not in details:
        raise ValueError(f"{checkpoint} does not describe its model: give a checkpoint of swinv2 train.")
    config, info = parse_metadata(str(checkpoint), details["model"])
    weights = _weights(checkpoint, details)
    kind, head = parse_kind(str(checkpoint), details["model"], encoder_kind(weights))
    with torch.device("meta"):
        model = make_model(kind, config, head)
    model.info = info
    model.load_state_dict(weights, assign=True)
    save(model, path)


def _weights(checkpoint: Path, details: dict[str, Any]) -> dict[str, Tensor]:
    if not checkpoint.is_dir():
        prefix, found = "model.", details["state_dict"]
    else:
        prefix, found = WEIGHTS, _empty(checkpoint)
        load(found, checkpoint_id=checkpoint)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def _empty(checkpoint: Path) -> dict[str, Any]:
    """Room for each of the weights in a folder of parts."""
    stored = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    return {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
        for name, entry in stored.items()
        if name.startswith(WEIGHTS)
    }


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m swinv2.train.consolidate", description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="last.ckpt of a run, a file or a folder")
    parser.add_argument("out", type=Path, help="safetensors file to write; it must not exist")
    options = parser.parse_args()
    try:
        if options.out.exists():
            raise ValueError(f"{options.out} exists: choose another name.")
        consolidate(options.checkpoint, options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
