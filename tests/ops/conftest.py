"""Triton's interpreter, where a process asks for it: it multiplies bf16 by their bit patterns and truncates casts."""

import os

if os.environ.get("TRITON_INTERPRET") == "1":
    import numpy as np
    import torch
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    plain_dot, plain_cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl

    def _widen(x):
        if x.dtype.scalar != tl.bfloat16:
            return x
        return TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def _dot(self, a, b, *rest):
        return plain_dot(self, _widen(a), _widen(b), *rest)

    def _cast(self, x, to):
        if x.dtype.scalar == tl.float32 and to.scalar == tl.bfloat16:
            rounded = torch.from_numpy(np.ascontiguousarray(x.data)).bfloat16().view(torch.uint16).numpy()
            return TensorHandle(rounded, tl.bfloat16)
        if x.dtype.scalar == tl.bfloat16 and to.scalar == tl.float32:
            return _widen(x)
        return plain_cast(self, x, to)

    InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl = _dot, _cast
    for name in ("create_fp_ext", "create_fp_trunc"):
        setattr(InterpreterBuilder, name, _cast)
