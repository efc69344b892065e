"""Compile the kernels for one architecture, 80 or 90, and print their resources, one JSON object a line:

PYTHONPATH=src python tests/ops/triton/compile_tiles.py 80
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from swinv2.ops.triton import launch
from swinv2.ops.triton.tiles import Problem

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
HALF, FULL = torch.bfloat16, torch.float32
CASES = [  # dtype, head_dim, windows
    (HALF, 32, [(4, 4), (5, 5), (7, 7), (8, 8), (12, 12), (16, 16), (24, 24), (32, 32), (48, 48), (64, 64)]),
    (HALF, 32, [(8, 7, 7), (8, 8, 8), (8, 24, 24)]),
    (torch.float16, 32, [(8, 8), (16, 16)]),
    (HALF, 16, [(8, 8), (16, 16)]),
    (HALF, 64, [(4, 4), (8, 8), (12, 12), (16, 16)]),
    (HALF, 128, [(4, 4), (12, 12), (16, 16)]),
    (FULL, 32, [(7, 7), (8, 8), (12, 12), (16, 16), (24, 24), (8, 7, 7)]),
    (FULL, 64, [(8, 8), (12, 12)]),
]


def launches(dtype, head_dim, window, cosine):
    """Every launch of a training step, on tensors without memory."""

    def empty(*shape, dtype=torch.float32):
        return torch.empty(*shape, dtype=dtype, device="meta")

    qkv = empty(2, *(64,) * len(window), 3, 4, head_dim, dtype=dtype)
    problem = Problem.of(tuple(qkv.shape), dtype, window, tuple(w // 2 for w in window))
    inputs = launch.Inputs(problem, qkv, empty(4, 15), empty(4) if cosine else None)
    out, lse, parts, pairs = empty(2, dtype=dtype), empty(4, 2), empty(4, 4), empty(2, 4, 2, 2)
    saved = {"grad_out": out, "lse": lse}
    yield "forward", launch.forward_launch(inputs, out, lse)
    if problem.whole:
        yield "backward", launch.whole_backward_launch(inputs, saved, qkv, pairs, parts, True)
    else:
        saved["delta"] = lse
        yield "queries", launch.queries_launch(inputs, saved, out, qkv, parts)
        yield "keys", launch.keys_launch(inputs, saved, qkv)
        yield "pairs", launch.pairs_launch(inputs, saved, pairs, 0)
    yield "reduce", launch.reduce_launch(problem, pairs[0], empty(4, 15))


def argument_type(value):
    """How Triton names the type of an argument."""
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return tuple(argument_type(x) for x in value) if isinstance(value, tuple) else "i32"


def resources(one, capability):
    """Registers, bytes of spills and of shared memory of a launch's binary."""
    names = one.kernel.arg_names
    signature = {name: argument_type(one.arguments[name]) if name in one.arguments else "constexpr" for name in names}
    constants = {(names.index(name),): value for name, value in one.constants.items()}
    aligned = [i for i, name in enumerate(names) if isinstance(one.arguments.get(name), torch.Tensor)]
    source = ASTSource(one.kernel, signature, constants, {(i,): [["tt.divisibility", 16]] for i in aligned})
    options = {name: value for name, value in one.options.items() if value is not None}
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", usage).groups()
    return {"registers": int(registers), "spills": int(stack) + int(local), "shared": binary.metadata.shared}


def main(capability):
    """Print the resources of all the cases."""
    for dtype, head_dim, windows in CASES:
        for window in windows:
            for cosine in (True, False) if (head_dim, len(window)) == (32, 2) and window[0] in (7, 8, 12) else (True,):
                for name, one in launches(dtype, head_dim, window, cosine):
                    case = {"kernel": name, "window": window, "dtype": str(dtype)[6:], "head_dim": head_dim}
                    print(json.dumps({**case, "cosine": cosine, **resources(one, capability)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
