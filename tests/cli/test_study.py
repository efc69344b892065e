from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from swinv2.cli.study import _folder, _parser

TINY = (
    *("--model.overrides.embed_dim", "8", "--trainer.epochs", "1", "--schedule.warmup_epochs", "0.5"),
    *("--trainer.accelerator", "cpu"),
)


def test_help_names_the_studies_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom swinv2.cli import main\n"
        "try: main(['study', '--help'])\nexcept SystemExit: pass\n"
        "print('heavy:', {'torch', 'matplotlib', 'lightning', 'jsonargparse'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("window-transfer", "norm-and-attention", "activations", "bias-maps", "memory", "stability"):
        assert f"  {name} " in done.stdout
    assert "heavy: set()" in done.stdout


def test_wrong_input_is_one_sentence(swinv2: Callable, tmp_path: Path, weights: Path) -> None:
    def refused(sentence: str, *arguments: object) -> None:
        out = tmp_path / "out"
        status, printed, err = swinv2("study", *arguments, "--out", out)
        assert (status, printed) == (2, "")
        assert sentence in err
        assert "Traceback" not in err
        assert not out.exists()

    refused("there is no study 'bias-map' (the nearest is 'bias-maps')", "bias-map")
    refused("study stability trains its own models: leave out --weights", "stability", "--weights", weights)
    refused("--data is for trainings, and --weights needs none", "bias-maps", "--weights", weights, "--data", "digits")
    refused("--image-size is for --weights: give some", "activations", "--image-size", "32")
    refused("study stability looks at no single image", "stability", "--image", "a.png")
    refused("study memory trains nothing: leave out --data", "memory", "--seeds", "2")
    refused("--scale paper trains on ImageNet: say where it is with --data", "window-transfer", "--scale", "paper")
    refused("optimizer.base_lr is what this study varies", "norm-and-attention", "--optimizer.base_lr", "1e-3")
    refused("(the nearest is 'trainer.epochs')", "window-transfer", "--trainer.epoch", "1")
    refused("trainer.batch_size 0 is too small", "window-transfer", "--trainer.batch_size", "0")
    refused("no/photos is no folder", "window-transfer", "--data", "no/photos")
    refused("'no.pth'", "bias-maps", "--weights", "no.pth")
    refused("no.png", "activations", "--weights", weights, "--image", "no.png")
    refused("no.png", "bias-maps", "--image", "no.png", *TINY)
    refused("study memory looks at no single image", "memory", "--image", "a.png")
    refused("--data is empty: say where the images are", "stability", "--data", "")
    refused("--trainer sets a group of options: give each by itself", "stability", "--trainer", '{"epochs": 1}')
    refused("--scale is for trainings, and --weights", "activations", "--weights", weights, "--scale", "paper")


def test_weights_that_changed_are_not_mistaken_for_what_they_were(
    swinv2: Callable, weights: Path, tmp_path: Path
) -> None:
    arguments = ("study", "activations", "--weights", weights, "--image-size", "16", "--out", tmp_path / "out")
    assert swinv2(*arguments)[0] == 0
    assert swinv2(*arguments)[0] == 0
    os.utime(weights, ns=(0, 0))
    status, _, err = swinv2(*arguments)
    assert status == 2
    assert f"{weights} has changed since {tmp_path / 'out'} looked at it: choose another --out." in err


def test_each_of_what_is_looked_at_has_its_own_folder() -> None:
    def folder(*arguments: str) -> str:
        return _folder(_parser().parse_args(["activations", *arguments]))

    one, two = (folder("--weights", f"runs/{run}/best.safetensors", "--image", "mine.png") for run in ("one", "two"))
    assert (one, two) == ("study-activations-mine-one-best", "study-activations-mine-two-best")
    assert folder("--data", "photos/cats", "--scale", "paper") == "study-activations-paper-cats"


def test_the_papers_scale_is_refused_by_the_planner(swinv2: Callable, tmp_path: Path, class_folders: Callable) -> None:
    photos = class_folders(counts={"cat": 700, "dog": 700}, size=(4, 4))
    shallow = ("--model.overrides.depths", "[1, 1, 1, 1]", "--model.overrides.num_heads", "[1, 1, 1, 1]")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which might do it")
    status, _, err = swinv2("study", "window-transfer", "--scale", "paper", "--data", photos, "--plan", *shallow)
    assert status == 2
    assert "--scale paper does not fit here: swinv2_base at 512 x 512, 1024 images a step, takes" in err
    assert "TFLOP a step, and this machine has no GPU: use --scale laptop." in err


def test_amplitudes_of_anybodys_weights_over_anybodys_image(swinv2: Callable, weights: Path, tmp_path: Path) -> None:
    Image.effect_noise((60, 40), 50).save(tmp_path / "mine.png")
    out = tmp_path / "out"
    arguments = (
        "study",
        "activations",
        "--weights",
        weights,
        "--image",
        tmp_path / "mine.png",
        "--image-size",
        "24x16",
    )
    status, printed, err = swinv2(*arguments, "--out", out)
    assert status == 0, err
    assert f"wrote {out}: 1 cells in 0.0 minutes, see {out / 'report.html'}" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "amplitudes.csv",
        "amplitudes.png",
        "cells",
        "cells.csv",
        "report.html",
        "report.md",
        "study.yaml",
    ]
    figures = json.loads((out / "cells" / "weights" / "figures.json").read_text())
    assert figures["input"] == [24, 16]
    assert yaml.safe_load((out / "study.yaml").read_text())["subject"]["weights"] == str(weights)
    status, _, err = swinv2("study", "activations", "--weights", weights, "--out", out)
    assert status == 2
    assert f"{out} holds a study that differs in" in err


@pytest.mark.slow
def test_a_study_from_training_to_verdicts(swinv2: Callable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, printed, err = swinv2("study", "bias-maps", *TINY, "--out", out)
    assert status == 0, err
    assert "planned: swinv2_nano at 16 x 16, 64 images a step in 1 part" in err
    assert "\nseen: a continuous bias keeps what it learned" in printed
    assert "\nnot visible at this scale: what log CPB learns is smooth" in f"\n{printed}", "tables hardly learn yet"
    assert {"maps.png", "profiles.png", "attention.png", "rollout.png", "bias.csv"} <= {p.name for p in out.iterdir()}
    table = (out / "bias.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table[1:]] == ["parameterised", "linear CPB", "log CPB"]


@pytest.mark.slow
@pytest.mark.realdata
def test_a_deep_model_is_pre_trained_on_real_images(swinv2: Callable, tmp_path: Path, real_data: Path) -> None:
    out = tmp_path / "out"
    few = ("--seeds", "1", "--model.overrides.embed_dim", "8", "--trainer.epochs", "null", "--trainer.steps", "4")
    few += ("--trainer.validate_every", "4", "--schedule.warmup_steps", "1", "--data.workers", "0")
    status, printed, err = swinv2("study", "stability", "--data", real_data / "cifar10", *few, "--out", out)
    assert status == 0, err
    assert "V1 fails to train where V2 trains" in printed
