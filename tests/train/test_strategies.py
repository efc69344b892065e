"""Two gloo processes on this machine against one, by the command line, as anyone would start them.

The weights agree to 1e-5 after 8 steps of AdamW at a learning rate of 1e-3: sums are in another order, and AdamW
divides by the root of small second moments. Weights that had skipped one step would differ by 1e-3.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest
import torch
from safetensors.torch import load_file

from swinv2.checkpoint import load
from swinv2.train.consolidate import consolidate
from swinv2.train.folder import RunFolder
from swinv2.train.options import Recipe, TrainerOptions
from swinv2.train.recipe import dump_recipe
from swinv2.train.run import train
from swinv2.train.strategies import make_strategy, processes

Tiny = Callable[..., Recipe]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def quiet(line: str) -> None:
    """Takes the log's lines."""


@pytest.fixture
def steady(tiny: Tiny, photos: Path) -> Callable[..., Recipe]:
    """The tiny recipe without anything that differs from process to process: no drop path, no mixing.

    Three more dogs make it 9 images to validate, which two processes cannot share evenly; it trains on 34.
    """
    for number in (20, 21, 22):
        copy(photos / "dog" / "3.png", photos / "dog" / f"{number}.png")

    def make(**trainer: object) -> Recipe:
        recipe = tiny(
            augment={"mixup": 0.0, "cutmix": 0.0},
            optimizer={"base_lr": 0.064},
            trainer={"epochs": 2, "ema_decay": None, **trainer},
        )
        overrides = {**recipe.model.overrides, "drop_path_rate": 0.0}
        return replace(recipe, model=replace(recipe.model, overrides=overrides))

    return make


def launch(recipe: Recipe, out: Path, *options: str, ranks: int = 2) -> subprocess.Popen[str]:
    """Start `swinv2 train` in several processes by torchrun."""
    file = out.with_suffix(".yaml")
    file.write_text(dump_recipe(recipe))
    start = [] if "--resume" in options else [str(file), "--out", str(out)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [sys.executable, *torchrun, "-m", "swinv2", "train", *start, *options],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def run(recipe: Recipe, out: Path, *options: str, ranks: int = 2) -> RunFolder:
    process = launch(recipe, out, *options, ranks=ranks)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return RunFolder(out)


def last_weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    """What `python -m swinv2.train.consolidate` writes of the last checkpoint."""
    path = folder.path / "whole.safetensors"
    consolidate(folder.last, path)
    return load_file(path)


def furthest(ours: RunFolder, theirs: RunFolder) -> float:
    a, b = last_weights(ours), last_weights(theirs)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "accumulate"), [("ddp", 1), ("ddp", 2), ("zero1", 1), ("fsdp", 1), ("fsdp", 2)])
def test_two_processes_leave_the_weights_of_one(
    steady: Callable[..., Recipe], tmp_path: Path, strategy: str, accumulate: int
) -> None:
    """With the same global batch; and they validate each image once."""
    one = train(steady(accumulate=accumulate), tmp_path / "one", say=quiet)
    two = run(steady(strategy=strategy, accumulate=accumulate), tmp_path / "two")
    assert furthest(two, one) < 1e-5
    assert [row["step"] for row in two.rows] == [row["step"] for row in one.rows]
    for name in ("val_loss", "val_top1", "train_loss"):
        assert [row[name] for row in two.rows] == pytest.approx([row[name] for row in one.rows], abs=1e-4)
    assert load(two.best).info == load(one.best).info


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero1", "fsdp"])
def test_two_processes_resume_where_they_were(steady: Callable[..., Recipe], tmp_path: Path, strategy: str) -> None:
    """One epoch and then another leave what two epochs do."""
    recipe = steady(strategy=strategy)
    constant = replace(recipe, schedule=replace(recipe.schedule, kind="constant"))
    whole = run(constant, tmp_path / "whole")
    run(constant, tmp_path / "run", "--trainer.epochs", "1")
    resumed = run(constant, tmp_path / "run", "--resume", str(tmp_path / "run"), "--trainer.epochs", "2")
    assert furthest(resumed, whole) < 1e-6
    columns = ("step", "lr", "val_loss", "val_top1")
    assert [[row[c] for c in columns] for row in resumed.rows] == [[row[c] for c in columns] for row in whole.rows]


@pytest.mark.slow
def test_unreadable_files_of_all_processes_are_listed_and_the_rest_told_once(
    steady: Callable[..., Recipe], photos: Path, tmp_path: Path
) -> None:
    broken = [photos / "cat" / f"broken{number}.png" for number in range(8)]  # 40 to train on: no step is left out
    for path in broken:
        path.write_bytes(b"")
    process = launch(steady(strategy="ddp", epochs=1), tmp_path / "run")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    lines = RunFolder(tmp_path / "run").skipped.read_text().splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [str(path) for path in broken]
    again = launch(steady(), tmp_path / "run", "--resume", str(tmp_path / "run"), "--trainer.epochs", "2")
    output, _ = again.communicate(timeout=200)
    assert output.count("after the last epoch") == 1, output


@pytest.mark.slow
def test_another_number_of_processes_goes_on(steady: Callable[..., Recipe], tmp_path: Path) -> None:
    """Both halves of the run see the images that one process would."""
    recipe = steady(save_every=2)
    constant = replace(recipe, schedule=replace(recipe.schedule, kind="constant"))
    whole = train(constant, tmp_path / "whole", say=quiet)
    run(replace(constant, trainer=replace(constant.trainer, epochs=1)), tmp_path / "run")
    resumed = train(constant, tmp_path / "run", resume=True, say=quiet)
    assert furthest(resumed, whole) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_process_ends_the_others_with_a_clear_message(
    steady: Callable[..., Recipe], tmp_path: Path, strategy: str
) -> None:
    out = tmp_path / "run"
    process = launch(steady(strategy=strategy, epochs=1000), out)
    deadline = time.monotonic() + 150
    while not (out / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(child_of_rank(process.pid, 1), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "another process of this training has ended" in output
    assert f"go on with: swinv2 train --resume {out}" in output


def child_of_rank(parent: int, rank: int) -> int:
    """The process that torchrun started as a rank."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        if f"LOCAL_RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError(f"no rank {rank} among {children}")


BYTES = """
import sys
import torch
import lightning as L
from pathlib import Path
from swinv2.train import callbacks
from swinv2.train.recipe import load_recipe
from swinv2.train.strategies import local
import swinv2.train.run as run

def optimizer_bytes(optimizer):
    inner = getattr(optimizer, "optim", optimizer)  # of a ZeroRedundancyOptimizer, its own part
    return sum(local(value).nbytes for state in inner.state.values() for value in state.values())

class Report(callbacks.Callback):
    def on_train_end(self, trainer, task):
        weights = sum(p.numel() * 4 for p in task.parameters())
        mine = sum(local(p).numel() * 4 for p in task.parameters())
        states = optimizer_bytes(trainer.optimizers[0])
        Path(sys.argv[2] + f".{trainer.global_rank}").write_text(f"{states} {weights} {mine}")

made = run._callbacks
run._callbacks = lambda *arguments: [*made(*arguments), Report()]
run.train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), say=lambda line: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero1", "fsdp"])
def test_bytes_of_the_optimiser_in_each_process(steady: Callable[..., Recipe], tmp_path: Path, strategy: str) -> None:
    """Two moments of fp32 a weight, and a step count a parameter: whole in each process, divided, or halved."""
    (tmp_path / "bytes.py").write_text(BYTES)
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(dump_recipe(steady(strategy=strategy, epochs=1)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, str(tmp_path / "bytes.py"), str(recipe), str(out)]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=200)
    found = [tuple(map(int, Path(f"{out}.{rank}").read_text().split())) for rank in (0, 1)]
    (first, weights, _), (second, _, _) = found
    counts = 4 * len(load_file(RunFolder(out).best))
    whole = 2 * weights + counts
    print(f"{strategy}: {first} + {second} of {whole} bytes")
    if strategy == "ddp":
        assert first == second == whole
    elif strategy == "zero1":
        assert first + second == whole
        assert min(first, second) > 0.3 * whole
    else:
        assert first + second == pytest.approx(2 * weights + 2 * counts, rel=0.01)
        assert first == pytest.approx(whole / 2, rel=0.1)
        assert found[0][2] + found[1][2] == weights


@pytest.mark.slow
def test_one_process_cannot_go_on_from_parts(steady: Callable[..., Recipe], tmp_path: Path) -> None:
    folder = run(steady(strategy="fsdp", epochs=1), tmp_path / "run")
    with pytest.raises(ValueError, match=r"last\.ckpt is in parts .*consolidate"):
        train(steady(strategy="fsdp"), folder.path, resume=True, say=quiet)


def test_a_batch_that_processes_cannot_share_is_one_sentence(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.Trainer.world_size", 3)
    with pytest.raises(ValueError, match=r"batch_size 8 cannot be shared by 3 devices .*multiple of 3\.$"):
        train(tiny(), tmp_path / "run", say=quiet)


def test_deepspeed_is_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match=r"needs DeepSpeed: pip install deepspeed, or use zero1"):
        make_strategy(TrainerOptions(strategy="deepspeed", devices=2))


def test_one_process_needs_no_strategy() -> None:
    """So that a recipe for many devices runs on one."""
    options = TrainerOptions(strategy="fsdp", accelerator="cpu")
    assert (processes(options), make_strategy(options)) == (1, "auto")
    assert processes(TrainerOptions(devices=4, nodes=2)) == 8


def test_no_moving_average_of_parts() -> None:
    with pytest.raises(ValueError, match=r"trainer\.ema_decay needs whole weights"):
        TrainerOptions(strategy="fsdp", ema_decay=0.9)
