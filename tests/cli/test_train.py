import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swinv2.checkpoint import load
from swinv2.cli.train import _free_folder
from swinv2.train.folder import RunFolder
from swinv2.train.recipe import load_recipe


@pytest.fixture
def photos(class_folders) -> Path:
    return class_folders(counts={"cat": 20, "dog": 20})


def test_a_recipe_with_overrides_becomes_a_run_folder(swinv2, recipe: Path, photos: Path, tmp_path: Path) -> None:
    status, out, err = swinv2("train", recipe, "--data.path", photos, "--seed", 5, "--out", tmp_path / "run")
    assert (status, err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    saved = load_recipe(folder.config)
    assert (saved.seed, saved.data.path, saved.trainer.epochs) == (5, str(photos), 2)
    lines = out.splitlines()
    assert lines[0] == "2 classes (cat, dog), 32 + 8 images, on cpu"
    assert [line.split("  ")[0] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
    best = max(row["val_top1"] for row in folder.rows)
    assert f"{best:.2%}" in lines[-1]
    assert str(folder.best) in lines[-1]
    assert "metrics.csv" in lines[-3]


def test_the_folder_is_named_after_the_recipe_and_never_taken_twice(
    swinv2, recipe: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert swinv2("train", recipe, "--data.path", photos, "--trainer.epochs", 1).status == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny", "tiny-2"]


def test_further_processes_take_the_folder_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = _free_folder("tiny")
    chosen.mkdir(parents=True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert _free_folder("tiny") == chosen
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert _free_folder("tiny") == Path("runs/tiny-2")


def test_a_run_without_a_matrix_says_so(
    swinv2, recipe: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swinv2.tasks.metrics.MOST_CLASSES_OF_MATRIX", 1)
    assert "no confusion.png" in swinv2("train", recipe, "--data.path", photos, "--out", tmp_path / "run").out


def test_skipped_files_are_counted(swinv2, recipe: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "notes.txt").write_text("")
    (photos / "cat" / "broken.png").write_bytes(b"")
    _, out, _ = swinv2("train", recipe, "--data.path", photos, "--out", tmp_path / "run")
    assert f"skipped 2 files: see {tmp_path / 'run' / 'skipped.txt'}" in out
    for option in (["--data.strict", "true"], ["--strict"]):
        strict = swinv2("train", recipe, "--data.path", photos, *option, "--out", tmp_path / "strict")
        assert strict.status == 2
        assert "notes.txt" in strict.err
    (photos / "cat" / "notes.txt").unlink()
    shutil.copy(photos / "cat" / "0.png", photos / "cat" / "broken.png")
    assert swinv2("train", "--resume", tmp_path / "run", "--strict").status == 0


def test_resume_goes_on_with_more_epochs_and_nothing_else(swinv2, recipe: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    swinv2("train", recipe, "--data.path", photos, "--out", out, "--trainer.epochs", 1)
    refused = swinv2("train", "--resume", out, "--optimizer.base_lr", 1)
    assert refused.status == 2
    assert "cannot change optimizer.base_lr" in refused.err
    assert swinv2("train", "--resume", out, "--trainer.epochs", 3).status == 0
    assert [row["epoch"] for row in RunFolder(out).rows] == [1, 2, 3]
    assert load_recipe(RunFolder(out).config).trainer.epochs == 3


def test_fine_tuning_takes_from_the_weights_what_the_recipe_leaves_out(
    swinv2, recipe: Path, weights: Path, photos: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.yaml"
    short.write_text("\n".join(line for line in recipe.read_text().splitlines() if not line.startswith("model")))
    where = ("--data.path", photos, "--out", tmp_path / "run")
    status, out, err = swinv2("train", short, "--weights", weights, *where, "--model.frozen_stages", 1)
    assert (status, err) == (0, "")
    told = "new head for 2 classes; window 2 (trained at 2); 1 of 2 stages frozen"
    assert out.splitlines()[0] == f"starting from {weights} (swinv2): {told}"
    saved, known = load_recipe(tmp_path / "run" / "config.yaml"), load(weights).info.preprocessing
    assert (saved.model.weights, saved.input) == (str(weights), known)
    weights.unlink()
    assert swinv2("train", "--resume", tmp_path / "run", "--trainer.epochs", 3).status == 0
    refused = swinv2("train", "--resume", tmp_path / "run", "--weights", "other.pth")
    assert (refused.status, refused.out) == (2, "")
    assert "cannot change model.weights" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--weights", "{tmp}/none.pth"], "none.pth"),
        (["--weights", "{tmp}/text.pth"], "text.pth"),
        (["--weights", "{tmp}/part.safetensors"], "part.safetensors"),
        (["--weights", "{weights}", "--model.name", "swin_tiny"], "leave model.name out"),
        (["--weights", "{weights}", "--model.frozen_stages", "3"], "model.frozen_stages 3"),
        (["--weights", "{weights}", "--preprocessing.mean", "[0.5]"], "differ in length"),
        (["--model.frozen_stages", "1"], "give --weights"),
    ],
)
def test_weights_that_cannot_be_used_are_one_sentence_and_leave_nothing(
    swinv2, recipe: Path, weights: Path, photos: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "text.pth").write_text("weights")
    (tmp_path / "part.safetensors").write_bytes(weights.read_bytes()[:3000])
    given = [argument.format(tmp=tmp_path, weights=weights) for argument in arguments]
    run = tmp_path / "run"
    status, out, err = swinv2("train", recipe, "--data.path", photos, "--out", run, *given)
    assert (status, out) == (2, "")
    assert err.startswith("swinv2: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not run.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{recipe}", "--data.path", "{tmp}/none"], "none"),
        (["{tmp}/none.yaml"], "none.yaml is not a file"),
        (["{recipe}", "--data.path", "{photos}", "--model.name", "swinv2_nono"], "nearest is 'swinv2_nano'"),
        (["{recipe}", "--data.path", "{photos}", "--model.window_size", "0"], "window_size"),
        (["{recipe}", "--data.path", "{photos}", "--model.overrides.num_heads", "[3, 3]"], "heads"),
        (["{recipe}", "--data.path", "{photos}", "--out", "{photos}"], "exists"),
        (["{recipe}", "--trainer.epochs", "two"], "trainer.epochs"),
        (["{recipe}", "--tariner.epochs", "2"], "--tariner.epochs"),
        (["{recipe}", "--data.path", "{photos}/cat"], "class folders"),
        (["{recipe}", "--data.path", "{tmp}/single"], "single class 'cat'"),
        (["{recipe}", "--data.path", "{tmp}/hollow"], "empty has no images"),
        (["{recipe}"], "there is no data.path"),
        (["--data.path", "{photos}"], "recipes/folder_nano.yaml"),
        (["--data.path", "{photos}", "--weights", "some.pth"], "recipes/finetune_folder.yaml"),
        (["--resume", "{tmp}"], "config.yaml is not a file"),
        (["--resume", "{tmp}/typo"], "there is no run folder"),
        (["{recipe}", "--resume", "{tmp}"], "leave out --out and the recipe"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(
    swinv2, class_folders, recipe: Path, photos: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    class_folders("single", counts={"cat": 3})
    class_folders("hollow", counts={"cat": 3, "empty": 0})
    places = {"recipe": recipe, "tmp": tmp_path, "photos": photos}
    status, out, err = swinv2("train", *(argument.format(**places) for argument in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("swinv2: error: ")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 1])
def test_two_processes_share_the_steps_and_write_one_folder(
    recipe: Path, weights: Path, photos: Path, tmp_path: Path, frozen: int
) -> None:
    out = tmp_path / "run"
    arguments = ["--weights", weights, "--model.frozen_stages", "1"] if frozen else []
    command = [sys.executable, "-m", "swinv2", "train", recipe, "--data.path", photos, "--out", out, *arguments]
    done = subprocess.run([*command, "--trainer.devices", "2"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in RunFolder(out).rows] == [4, 8]
    assert done.stdout.count("the best: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("after", ["", "epoch 1/"], ids=["before-the-first-epoch", "after-it"])
def test_ctrl_c_at_a_terminal(recipe: Path, photos: Path, tmp_path: Path, after: str) -> None:
    """The terminal sends SIGINT to the whole process group, workers included."""
    out = tmp_path / "run"
    command = [sys.executable, "-u", "-m", "swinv2", "train", recipe, "--data.path", photos, "--out", out]
    command += ["--data.workers", "2", "--trainer.epochs", "100000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        while not out.exists():
            time.sleep(0.05)
        while after and after not in run.stdout.readline():
            pass
        os.killpg(run.pid, signal.SIGINT)
        _, err = run.communicate(timeout=120)
    assert run.returncode == 130, err
    assert err.splitlines()[-1] == f"swinv2: stopped by Ctrl-C; go on with: swinv2 train --resume {out}"
    assert "Traceback" not in err
    folder = RunFolder(out)
    assert {"best.safetensors", "config.yaml", "confusion.png", "curves.png", "metrics.csv"} <= set(folder.contents())
    reached = int(folder.rows[-1]["epoch"])  # whole ones: the row of a part of one makes way for that of the whole
    command = [sys.executable, "-m", "swinv2", "train", "--resume", str(out), "--trainer.epochs", str(reached + 1)]
    subprocess.run(command, check=True, capture_output=True)
    assert [row["epoch"] for row in RunFolder(out).rows] == list(range(1, reached + 2))


def test_a_length_in_steps_is_told_in_steps(swinv2, recipe: Path, photos: Path, tmp_path: Path) -> None:
    """And may grow on resume, but not become one in epochs."""
    out = tmp_path / "run"
    length = ("--trainer.epochs", "null", "--trainer.steps", 6, "--trainer.validate_every", 3)
    schedule = ("--schedule.warmup_steps", 1, "--schedule.kind", "poly")
    status, told, err = swinv2("train", recipe, "--data.path", photos, "--out", out, *length, *schedule)
    assert (status, err) == (0, "")
    lines = told.splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == ["step 3/6", "step 6/6"]
    assert lines[-2].endswith("after the last step")
    assert " after step " in lines[-1]
    assert swinv2("train", "--resume", out, "--trainer.steps", 9).status == 0
    assert [row["step"] for row in RunFolder(out).rows] == [3, 6, 9]
    for other in (("--trainer.epochs", 9, "--trainer.steps", "null"), ("--trainer.validate_every", 9)):
        refused = swinv2("train", "--resume", out, *other)
        assert (refused.status, refused.out) == (2, "")
        assert refused.err.count("\n") == 1
