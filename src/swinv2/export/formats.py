"""The file formats: how a traced model is written, and how such a file runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swinv2.export.program import Traced

OPSET = 20
"""Version of the ONNX operators: the first with GELU."""
ONNX_BYTES = 2**31 - 2**24
"""Largest size of weights that an ONNX file holds, less room for its graph."""

Run = Callable[[Tensor], Sequence[Tensor]]
"""What a file does: all its outputs for one input."""


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        write: writes a graph with metadata.
        open: makes a file callable on a CPU tensor.
        packages: what both need beside torch.
        dtypes: what the weights may be.
        max_bytes: how large the weights may be; None: any size.
    """

    write: Callable[[Traced, Path, Mapping[str, str]], None]
    open: Callable[[Path], Run]
    packages: Sequence[str] = ()
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    max_bytes: int | None = None

    def check_weights(self, name: str, dtype: torch.dtype, size: int) -> None:
        """ValueError if weights of this dtype and size in bytes do not fit."""
        if dtype not in self.dtypes:
            raise ValueError(f"the weights are {dtype}, which {name} files of ours do not hold: use model.float().")
        if self.max_bytes is not None and size > self.max_bytes:
            raise ValueError(
                f"the weights take {size / 1e9:.1f} GB, but one {name} file holds {self.max_bytes / 1e9:.1f} GB: "
                "export pt2."
            )


def _write_pt2(traced: Traced, path: Path, metadata: Mapping[str, str]) -> None:
    torch.export.save(traced.program, path, extra_files=dict(metadata))


def _open_pt2(path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(x: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            result = module(x)
        return [result] if isinstance(result, Tensor) else list(result)

    return run


def _write_onnx(traced: Traced, path: Path, metadata: Mapping[str, str]) -> None:
    converted = torch.onnx.export(
        traced.program,
        (),
        dynamo=True,
        opset_version=OPSET,
        input_names=["input"],
        output_names=traced.outputs,
        dynamic_shapes=(traced.axes,),  # for their names
        verbose=False,
    )
    assert converted is not None
    converted.model.metadata_props.update(metadata)
    import onnx_ir

    onnx_ir.save(converted.model, path)  # the program's own `save` puts weights of 1.5 GB into a second file


def _open_onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Sequence[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {"input": x.numpy()})]

    return run


FORMATS: dict[str, Format] = {
    "pt2": Format(_write_pt2, _open_pt2),
    "onnx": Format(
        _write_onnx,
        _open_onnx,
        packages=("onnx", "onnxscript", "onnxruntime"),
        dtypes=(torch.float32,),
        max_bytes=ONNX_BYTES,
    ),
}
"""By name, which is also the file's suffix."""
