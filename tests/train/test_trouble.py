"""What goes wrong on the way: one clear sentence each, and the last good checkpoint stays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from swinv2.tasks.base import Diverged
from swinv2.tasks.classify import ClassificationTask
from swinv2.train.folder import RunFolder
from swinv2.train.options import Recipe
from swinv2.train.recipe import load_recipe
from swinv2.train.run import train

Tiny = Callable[..., Recipe]


def quiet(line: str) -> None:
    """Takes the log's lines."""


@pytest.fixture
def nobody() -> Iterator[None]:
    """Without the permissions of root, to whom everything is allowed."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that everyone may read and nobody may write."""
    folder = tmp_path / "locked"
    folder.mkdir()
    ours = [tmp_path, *tmp_path.parents]
    for path in ours[: ours.index(Path(tempfile.gettempdir()))]:
        path.chmod(0o755)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def test_no_permission_to_write(tiny: Tiny, locked: Path, nobody: None) -> None:
    with pytest.raises(ValueError, match=r"run cannot be written, for want of permission in .*locked: choose another"):
        train(tiny(), locked / "run", say=quiet)


def test_a_run_without_checkpoint_starts_again(tiny: Tiny, tmp_path: Path) -> None:
    """As after a kill before the first one."""
    whole = train(tiny(trainer={"epochs": 1}), tmp_path / "whole", say=quiet)
    folder = RunFolder(tmp_path / "run")
    folder.create("seed: 0\n")
    resumed = train(tiny(trainer={"epochs": 1}), folder.path, resume=True, say=quiet)
    assert load_recipe(resumed.config).trainer.epochs == 1
    ours, theirs = load_file(resumed.best), load_file(whole.best)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_other_data_are_refused(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    before = folder.last.read_bytes()
    (photos / "cat" / "3.png").unlink()
    (photos / "cat" / "4.png").unlink()
    with pytest.raises(
        ValueError, match=r"data have 30 training samples, but the checkpoint was made with 32"
    ) as caught:
        train(tiny(), tmp_path / "run", resume=True, say=quiet)
    assert "\n" not in str(caught.value)
    assert folder.last.read_bytes() == before


def test_a_nan_says_step_remedy_and_last_good_checkpoint(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights break in the sixth step, whose loss is still a number; the checkpoint after it is not written."""

    def break_weights(self: ClassificationTask, scheduler: Any, metric: object) -> None:
        scheduler.step()
        if self.trainer.global_step == 6:
            with torch.no_grad():
                self.model.norm.weight[0] = torch.nan

    monkeypatch.setattr(ClassificationTask, "lr_scheduler_step", break_weights)
    with pytest.raises(Diverged) as caught:
        train(tiny(trainer={"save_every": 1}), tmp_path / "run", say=quiet)
    folder = RunFolder(tmp_path / "run")
    assert torch.load(folder.last, weights_only=True)["global_step"] == 5
    assert "weights are not finite after step 6" in str(caught.value)
    assert f"The last good checkpoint, after step 5, is {folder.last}." in str(caught.value)
    assert "lower optimizer.base_lr" in str(caught.value)
    weights = torch.load(folder.last, weights_only=True)["current_model_state"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_checkpoints_come_every_so_many_steps(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: (saved.append(state["global_step"]), save(state, file)))
    train(tiny(trainer={"save_every": 3, "epochs": 2}), tmp_path / "run", say=quiet)
    assert saved == [3, 4, 6, 8]


def test_what_a_killed_writer_left_is_swept_away(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    parent = folder.last.parent
    (parent / ".last.abc.ckpt").write_bytes(b"half")
    (parent / ".last.def").mkdir()
    (parent / ".last.def" / "part").write_bytes(b"half")
    train(tiny(trainer={"epochs": 2}), folder.path, resume=True, say=quiet)
    assert [path.name for path in parent.iterdir()] == ["last.ckpt"]


def test_the_data_pipelines_own_rate_is_measured(tiny: Tiny, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = train(tiny(trainer={"epochs": 2}), tmp_path / "run", say=lines.append)
    assert all((row["data_images_per_second"] or 0) > (row["images_per_second"] or 0) > 0 for row in folder.rows)
    assert all(0 <= (row["waited"] or 0) <= 1 for row in folder.rows)
    assert "  data " in lines[1]
    assert "  waited " in lines[1]


@pytest.mark.parametrize("order", ["shards", "resampled"])
def test_folders_cannot_be_read_by_the_shard(tiny: Tiny, tmp_path: Path, order: str) -> None:
    with pytest.raises(ValueError, match=r"these data are no shards: set data\.order to images"):
        train(tiny(data={"order": order}), tmp_path / "run", say=quiet)
