"""The Triton operator under DDP and FSDP2: two processes on the CPU, in Triton's interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import sys
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
import swinv2

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
config = swinv2.SwinConfig(embed_dim=16, depths=(1, 2), num_heads=(1, 2), window_size=4, num_classes=3)


def build():
    torch.manual_seed(0)
    model = swinv2.SwinTransformer(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0.0, 0.2)
    model.set_attention_backend("triton")
    return model


def images(r):
    return torch.randn(1, 3, 32, 28, generator=torch.Generator().manual_seed(r))


alone = build()
(sum(alone(images(r)).sin().sum() for r in range(2)) / 2).backward()

parallel = build()
if sys.argv[1] == "ddp":
    wrapped = DistributedDataParallel(parallel)
else:
    mesh = init_device_mesh("cpu", (2,))
    for stage in parallel.stages:
        for block in stage.blocks:
            fully_shard(block, mesh=mesh)
    wrapped = fully_shard(parallel, mesh=mesh)
wrapped(images(rank)).sin().sum().backward()
for (name, want), got in zip(alone.named_parameters(), parallel.parameters(), strict=True):
    grad = got.grad.full_tensor() if sys.argv[1] == "fsdp" else got.grad
    assert want.grad.norm() > 0, name
    assert (grad - want.grad).norm() <= 1e-5 * want.grad.norm(), name
print("agreed")
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_have_the_gradients_of_one(strategy, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, strategy]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("agreed") == 2
