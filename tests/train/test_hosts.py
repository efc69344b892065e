"""Two hosts, two network namespaces that only a virtual cable joins, with torchrun in each, against one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from swinv2.train.consolidate import consolidate
from swinv2.train.recipe import dump_recipe
from swinv2.train.run import train

PORT = "29531"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Address and name of two namespaces; both interfaces are called veth."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command (Debian's iproute2) to make network namespaces with")
    names = [f"swinv2-{os.getpid()}-{number}" for number in range(2)]
    addresses = [f"10.213.7.{number + 1}" for number in range(2)]
    made: list[str] = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            cable = ["link", "add", "veth", "netns", names[0], "type", "veth", "peer", "name", "veth"]
            ip(*cable, "netns", names[1])
            for name, address in zip(names, addresses, strict=True):
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "veth")
                for device in ("lo", "veth"):
                    ip("-n", name, "link", "set", device, "up")
        except (subprocess.CalledProcessError, OSError) as error:
            pytest.skip(f"network namespaces are not allowed here: {getattr(error, 'stderr', error)}")
        yield dict(zip(addresses, names, strict=True))
    finally:
        for name in made:
            ip("netns", "delete", name)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero1"])
def test_two_hosts_leave_the_weights_of_one_process(
    tiny: Callable[..., Any], hosts: dict[str, str], tmp_path: Path, strategy: str
) -> None:
    recipe = tiny(
        augment={"mixup": 0.0, "cutmix": 0.0},
        optimizer={"base_lr": 0.064},
        trainer={"epochs": 2, "ema_decay": None, "strategy": strategy},
    )
    recipe = replace(recipe, model=replace(recipe.model, overrides={**recipe.model.overrides, "drop_path_rate": 0.0}))
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    first = next(iter(hosts))
    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
             "--nproc-per-node", "1", "--node-rank", str(rank), "--master-addr", first, "--master-port", PORT,
             "-m", "swinv2", "train", str(file), "--out", str(tmp_path / "two")],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "veth"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, name in enumerate(hosts.values())
    ]  # fmt: skip
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    one = train(recipe, tmp_path / "one", say=lambda line: None)
    ours, theirs = (weights(folder / "checkpoints" / "last.ckpt") for folder in (one.path, tmp_path / "two"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.with_suffix(".safetensors")
    consolidate(checkpoint, path)
    return load_file(path)
