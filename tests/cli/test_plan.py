import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ("swinv2_nano", "--image-size", "64", "--window-size", "8")


def test_a_plan_is_printed_and_written(swinv2: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    arguments = ("plan", *SMALL, "--batch", "2", "--devices", "4", "--strategy", "zero1", "--output", folder)
    status, out, err = swinv2(*arguments)
    assert status == 0, err
    assert out.startswith("swinv2_nano: training step at 64 x 64, batch 2 on each of 4 devices, bf16, zero1")
    assert "| optimiser |" in out
    assert "24 GB: fits" in out
    assert "| 24 GB | ddp |" in out
    assert sorted(path.name for path in folder.iterdir()) == ["plan.json", "plan.md", "plan.png"]
    result = json.loads((folder / "plan.json").read_text())
    assert result["settings"]["strategy"] == "zero1"
    assert result["cheapest"]["24 GB"]["settings"]["strategy"] == "ddp"
    assert result["total"] > result["states"]["weights"]

    status, _, err = swinv2(*arguments)
    assert status == 2
    assert "plan.json exists: choose another name, or add --overwrite" in err


def test_a_plan_beside_a_measured_step(swinv2: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = swinv2("plan", *SMALL, "--device", "cpu", "--precision", "fp32", "--measure")
    assert status == 0, err
    assert "Measured on this machine:" in out
    assert list(tmp_path.iterdir()) == []


RECIPE = """
task: {task}
model:
  name: swinv2_nano
  image_size: 64
  window_size: 4
  overrides: {{embed_dim: 16, depths: [1, 1], num_heads: [1, 2]}}
trainer: {{batch_size: 8, precision: bf16-mixed, strategy: {strategy}, epochs: 1}}
schedule: {{warmup_epochs: 0}}
checkpointing: {{every: 1}}
attention: {{backend: sequential, stages: [0]}}
"""
DETECT = """
detect:
  detector: mask_rcnn
  heads: {pyramid_channels: 16, box_features: 16, box_samples: 16, proposals_after_nms: [50, 50]}
  augment: {short_side: [48, 64], short_step: 16, long_side: 96}
"""


def test_a_recipe_answers_what_no_option_does(swinv2: Callable, tmp_path: Path) -> None:
    recipe, folder = tmp_path / "detect.yaml", tmp_path / "out"
    recipe.write_text(RECIPE.format(task="detect", strategy="zero1") + DETECT)
    status, out, err = swinv2("plan", recipe, "--devices", "4", "--objects", "10", "--output", folder)
    assert status == 0, err
    assert out.startswith(
        "mask_rcnn on swinv2_nano: training step at 96 x 96, batch 2 on each of 4 devices, bf16, zero1, checkpointing, "
        "sequential attention in stages 0"
    )
    work = json.loads((folder / "plan.json").read_text())["work"]
    assert (work["heads"]["pyramid_channels"], work["config"]["num_classes"], work["objects"]) == (16, 80, 10)
    status, out, err = swinv2("plan", recipe, "--batch", "1", "--precision", "fp32", "--checkpointing", "none")
    assert status == 0, err
    assert out.startswith("mask_rcnn on swinv2_nano: training step at 64 x 96, batch 1, fp32, sequential attention")
    assert "note: the recipe leaves devices open: one in each machine shares 8 images (--devices N)" in err


def test_a_recipe_of_segmentation_and_heads_by_name(swinv2: Callable, tmp_path: Path) -> None:
    recipe = tmp_path / "segment.yaml"
    recipe.write_text(
        RECIPE.format(task="segment", strategy="auto") + "segment: {heads: {channels: 16, auxiliary_map: 0}}"
    )
    status, out, err = swinv2("plan", recipe, "--devices", "2")
    assert status == 0, err
    assert out.startswith("upernet on swinv2_nano: training step at 64 x 64, batch 4 on each of 2 devices, bf16, ddp")
    status, out, err = swinv2("plan", *SMALL, "--head", "upernet", "--classes", "3")
    assert status == 0, err
    assert out.startswith("upernet on swinv2_nano: training step at 64 x 64, batch 1, bf16")


UNMIXED = "{mixup: 0, cutmix: 0, label_smoothing: 0}"


def test_recipes_that_cannot_be_planned_are_one_sentence(swinv2: Callable, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    for text, sentence in (
        (
            "task: simmim\naugment: {mixup: 0, cutmix: 0, label_smoothing: 0}",
            "pre-trains by SimMIM, which is not planned",
        ),
        ("model: {weights: some.pth}", "names no model, but takes that of its weights: add model.name."),
        ("model: {name: swinv2_nano}\ntrainer: {precision: bf16-true}", "has trainer.precision bf16-true"),
        ("model: {name: swinv2_nano}\ncheckpointing: {every: 2}", "has checkpointing of some blocks"),
        ("model: {name: swinv2_nano}\ntrainer: {batch_size: 9}", "trainer.batch_size 9 cannot be shared by 2 devices"),
    ):
        recipe.write_text(text)
        status, out, err = swinv2("plan", recipe, "--devices", "2")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert sentence in err


def test_wrong_input_is_one_sentence(swinv2: Callable) -> None:
    def refused(sentence: str, *arguments: object) -> None:
        status, out, err = swinv2("plan", *arguments)
        assert (status, out) == (2, "")
        assert sentence in err
        assert "Traceback" not in err

    refused("There is no model 'swinv2_tiy' (the nearest is 'swinv2_tiny')", "swinv2_tiy")
    refused("'0,x' names no stages: write 0,1", "--attention-stages", "0,x")
    refused("2 devices need a strategy", *SMALL, "--devices", "2", "--strategy", "none")
    refused("batch is 0, but must be", *SMALL, "--batch", "0")
    refused("There is no attention backend 'sdp'", *SMALL, "--attention", "sdp")
    refused("There is no stage 9", *SMALL, "--attention", "sequential", "--attention-stages", "9")
    refused("'sdpa' keeps to no budget of memory", *SMALL, "--attention", "sdpa", "--budget-mb", "64")
    refused("head is 'mask_rcn' (the nearest is 'mask_rcnn')", *SMALL, "--head", "mask_rcn")
    refused("swinv2_video_tiny is a model of videos", "swinv2_video_tiny", "--head", "upernet")
    refused("recipe gone.yaml is not a file", "gone.yaml")
    refused("cannot run here: it needs an NVIDIA GPU", *SMALL, "--attention", "triton", "--device", "cpu")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom swinv2.cli import main\n"
        "try: main(['plan', '--help'])\nexcept SystemExit: pass\n"
        "print('heavy:', {'torch', 'matplotlib', 'lightning'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: swinv2 plan" in done.stdout
    assert "heavy: set()" in done.stdout


RECIPES = Path(__file__).parents[2] / "recipes"


def test_a_recipe_of_videos_has_its_frames(swinv2: Callable, tmp_path: Path) -> None:
    recipe = tmp_path / "video.yaml"
    small = RECIPE.format(task="video", strategy="auto").replace("swinv2_nano", "swinv2_video_nano")
    recipe.write_text(small.replace("image_size: 64", "image_size: 32") + "video: {frames: 4}")
    status, out, err = swinv2("plan", recipe, "--devices", "4")
    assert status == 0, err
    assert out.startswith("swinv2_video_nano: training step at 4 x 32 x 32, batch 2 on each of 4 devices, bf16, ddp")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_published_recipe_of_htc_is_planned_as_its_command_starts_it(swinv2: Callable) -> None:
    status, out, err = swinv2("plan", RECIPES / "coco_htcpp_large_w32_1536.yaml", "--devices", "8")
    assert status == 0, err
    assert out.startswith(
        "htc_plus_plus on swinv2_large: training step at 1536 x 1536, batch 8 on each of 8 devices, bf16, zero1, "
        "checkpointing, sequential attention in stages 0, 1"
    )
    assert "40 GB: fits" in out
