"""A training run from a recipe to its folder."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger

from swinv2.data.loading import Loader, make_loader
from swinv2.data.sources.base import Source
from swinv2.tasks.base import Diverged, Task
from swinv2.train.callbacks import BestWeights, Ema, EpochRows, Progress, Say, SkippedFiles, Start
from swinv2.train.consolidate import read_details
from swinv2.train.engine_options import TrainerOptions
from swinv2.train.folder import RunFolder
from swinv2.train.initial import Initial
from swinv2.train.job import Job, job_of
from swinv2.train.optim import optimise
from swinv2.train.options import Recipe
from swinv2.train.recipe import dump_recipe
from swinv2.train.resume import Interrupted, Resumable, WholeCheckpoints, check_progress, interrupts_as_such, sweep
from swinv2.train.strategies import lost_peer, make_strategy, placement, processes, shard_when_ready


def train(recipe: Recipe, out: Path, *, resume: bool = False, say: Say = print) -> RunFolder:
    """Train as the recipe says and leave everything in the folder `out`.

    A start that fails before its first step leaves no folder.

    Args:
        recipe: What to train.
        out: The run folder; it must not exist, or, with `resume`, be one that `train` left.
        resume: Go on from its last checkpoint, or from the start where it has none yet.
        say: Receives a line of what is trained on, and one an epoch.

    Raises:
        ValueError: The recipe, the data or the folder cannot be used, or (`Diverged`) the loss or the weights are not
            finite; the message says why, and what to do.
        OSError: A file cannot be written, or (ConnectionError) another process of the training has ended.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the folder is complete, and the message says how to go on.
    """
    job = job_of(recipe.task)
    folder = RunFolder(out, job.scores)
    _check(folder, resume, recipe.trainer)
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    last = folder.last if resume and folder.last.exists() else None
    training, validation = job.open(recipe)
    start = job.initial(recipe, training, last)
    recipe = start.recipe
    resumable = Resumable(folder.last, recipe.seed, recipe.trainer.save_every)
    callbacks = _callbacks(job, start, folder, training, validation, say)
    with _quiet_lightning(), resumable.heeding_interrupts():
        if not resume:
            folder.create(dump_recipe(recipe))  # from when it is seen, a Ctrl-C is one that can be gone on from
        try:
            trainer = _trainer(recipe, folder, [*callbacks, resumable], len(training))
            loaders = _loaders(job, recipe, training, validation, trainer)
            if last is not None:
                check_progress(read_details(last), loaders[0])
            task = _task(job, start, (training, validation), len(loaders[0]))
            _fit(trainer, task, loaders, resumable, folder, last is not None)
        except BaseException as error:
            if not (resume or resumable.started):
                folder.remove()
            told = _told(error, folder)
            if told is error:
                raise
            raise told from None
    return folder


def _told(error: BaseException, folder: RunFolder) -> BaseException:
    """An error with what people should do after it."""
    on = f"go on with: swinv2 train --resume {folder.path}" if folder.last.exists() else "nothing was kept"
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt(f"stopped by {str(error) or 'Ctrl-C'}; {on}")
    if isinstance(error, Diverged):
        return Diverged(f"{error} {_last_good(folder)}")
    if lost_peer(error):
        reason = " ".join(str(error).split())[:200]
        return ConnectionError(f"another process of this training has ended ({reason}); {on}")
    return error


def _last_good(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "No checkpoint was written yet."
    step = read_details(folder.last)["global_step"]
    return f"The last good checkpoint, after step {step}, is {folder.last}."


@rank_zero_only
def _check(folder: RunFolder, resume: bool, options: TrainerOptions) -> None:
    if resume and not (folder.last.exists() or folder.config.exists()):
        raise ValueError(f"{folder.path} has no {folder.last.name} to resume from: start again with another --out.")
    there = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ValueError(
            f"run folder {folder.path} cannot be written, for want of permission in {there}: choose another."
        )
    sweep(folder.last)
    unit, total = options.unit, options.total
    trained = int(folder.rows[-1][unit] or 0) if folder.rows else 0
    if resume and trained > total:
        raise ValueError(f"trainer.{unit}s {total} is below the {trained} {unit}s of {folder.path}: give more.")
    if resume and folder.last.is_dir() and processes(options) == 1:
        raise ValueError(
            f"{folder.last} is in parts for several processes: resume with as many, or make one file of its weights by "
            "python -m swinv2.train.consolidate and start a new run from that."
        )
    if not resume and folder.path.exists():
        resuming = f", or go on with --resume {folder.path}" if folder.last.exists() else ""
        raise ValueError(f"run folder {folder.path} exists: choose another --out{resuming}.")


def _task(job: Job[Any], start: Initial, data: tuple[Source, Source], batches: int) -> Task:
    recipe = start.recipe
    steps = recipe.trainer.rounds * math.ceil(batches / recipe.trainer.accumulate)
    task = job.task(start, *data, partial(optimise, recipe=recipe, total_steps=steps))
    if recipe.trainer.strategy == "fsdp" and processes(recipe.trainer) > 1:
        shard_when_ready(task, start.model)
    return task


def _callbacks(
    job: Job[Any], start: Initial, folder: RunFolder, training: Source, validation: Source, say: Say
) -> list[Callback]:
    options = start.recipe.trainer
    return [
        Start(folder, dump_recipe(start.recipe), start.remarks, job.describe(training, validation), say),
        BestWeights(folder, options, job.drawing(start, folder, validation)),
        *job.callbacks(start, folder, validation),
        *([Ema(decay=options.ema_decay)] if options.ema_decay is not None else []),
        EpochRows(folder, options, say),
        SkippedFiles(folder, dict.fromkeys((*training.skipped, *validation.skipped))),
        LearningRateMonitor("step"),
        *([Progress(options)] if sys.stderr.isatty() else []),
    ]


def _trainer(recipe: Recipe, folder: RunFolder, callbacks: list[Callback], images: int) -> L.Trainer:
    options = recipe.trainer
    steps = options.every if options.steps else max(1, images // options.batch_size)  # of a round, or fewer
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            strategy=make_strategy(options),
            **placement(options),
            precision=options.precision,
            max_epochs=options.rounds,
            max_time=timedelta(minutes=options.max_minutes) if options.max_minutes else None,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=recipe.optimizer.clip_norm,
            callbacks=callbacks,
            plugins=[WholeCheckpoints()],
            use_distributed_sampler=False,  # the loaders know their process
            logger=TensorBoardLogger(folder.path, name="", version=folder.tensorboard.name),
            log_every_n_steps=min(50, steps),
            default_root_dir=folder.path,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        )
    except MisconfigurationException as error:
        raise ValueError(f"Lightning cannot run these trainer options: {' '.join(str(error).split())}") from error


def _loaders(
    job: Job[Any], recipe: Recipe, training: Source, validation: Source, trainer: L.Trainer
) -> tuple[Loader, Loader]:
    """Batches for this process, of those that train together; too few images for a batch in each make a smaller one."""
    data, options = recipe.data, recipe.trainer
    batch_size = options.loader_batch(trainer.world_size)

    def loader(source: Source, augmented: bool, **length: int) -> Loader:
        return make_loader(
            job.samples(recipe, source, augmented=augmented),
            batch_size=batch_size,
            shuffle=augmented,
            seed=recipe.seed,
            workers=data.workers,
            drop_last=augmented and len(source) >= batch_size * trainer.world_size,
            rank=trainer.global_rank,
            processes=trainer.world_size,
            order=data.order,
            buffer=data.buffer,
            **length,
        )

    length = {"batches": options.every * options.accumulate} if options.steps else {"epochs": options.every}
    return loader(training, True, **length), loader(validation, False)


@interrupts_as_such()
def _fit(
    trainer: L.Trainer,
    task: Task,
    loaders: tuple[Loader, Loader],
    resumable: Resumable,
    folder: RunFolder,
    resume: bool,
) -> None:
    """Train; if the first epoch is ended early, validate what there is, so that the folder is complete."""
    try:
        trainer.fit(task, *loaders, ckpt_path=folder.last if resume else None, weights_only=True)
    except (Interrupted, RuntimeError) as error:
        if not resumable.caused(error):
            raise
        if not folder.best.exists():
            trainer.validate(task, loaders[1], verbose=False)
        raise KeyboardInterrupt(resumable.requested) from None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's tips and notes, but with its warnings."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for note in (
                "does not have many workers",
                "isinstance.treespec, LeafSpec",
                "`training_step` returned `None`",
                "Found .* in eval mode",  # frozen stages
                "It is recommended to use `self.log",  # metrics are of all processes already
            ):
                warnings.filterwarnings("ignore", message=f".*{note}")
            yield
    finally:
        logger.setLevel(level)
