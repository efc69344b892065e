import pytest

from swinv2.model import SwinTransformer, create_model
from swinv2.train.memory import economise
from swinv2.train.options import AttentionOptions, CheckpointingOptions


@pytest.fixture
def model() -> SwinTransformer:
    return create_model("swinv2_nano", depths=(1, 3, 2, 1), embed_dim=8, num_heads=(1, 1, 1, 1), num_classes=2)


@pytest.mark.parametrize(
    ("options", "recomputed"),
    [
        ({}, ["-", "---", "--", "-"]),
        ({"every": 1}, ["x", "xxx", "xx", "x"]),
        ({"every": 2}, ["x", "x-x", "x-", "x"]),
        ({"every": 1, "stages": 2}, ["x", "xxx", "--", "-"]),
        ({"every": 3, "stages": 3}, ["x", "x--", "x-", "-"]),
    ],
)
def test_blocks_to_recompute(model: SwinTransformer, options: dict, recomputed: list[str]) -> None:
    model.set_checkpointing()
    economise(model, CheckpointingOptions(**options), AttentionOptions())
    marks = [["x" if block.checkpointing else "-" for block in stage.blocks] for stage in model.stages]
    assert ["".join(stage) for stage in marks] == recomputed


@pytest.mark.parametrize("stages", [None, (0, 2)])
def test_attention_by_stage(model: SwinTransformer, stages: tuple[int, ...] | None) -> None:
    economise(model, CheckpointingOptions(), AttentionOptions(backend="sequential", stages=stages))
    backends = [{block.attention.body.backend for block in stage.blocks} for stage in model.stages]
    chosen = range(4) if stages is None else stages
    assert backends == [{"sequential" if stage in chosen else "auto"} for stage in range(4)]


@pytest.mark.parametrize("backend", ["sequential", "auto"])
def test_a_budget_of_a_stage(model: SwinTransformer, backend: str) -> None:
    economise(model, CheckpointingOptions(), AttentionOptions(backend=backend, stages=(1,), budget_mb=0.5))
    budgets = [{block.attention.body.budget_mb for block in stage.blocks} for stage in model.stages]
    assert budgets == [{None}, {0.5}, {None}, {None}]


@pytest.mark.parametrize(
    ("attention", "words"),
    [
        (AttentionOptions(backend="sequental"), "no attention backend 'sequental' .*nearest is 'sequential'"),
        (AttentionOptions(stages=(0, 4)), "no stage 4: this model has stages 0 to 3"),
        (AttentionOptions(backend="sdpa", budget_mb=64), "'sdpa' keeps to no budget of memory"),
        (AttentionOptions(budget_mb=0), "budget_mb is 0, but must be a positive number"),
    ],
)
def test_what_cannot_run_is_named(model: SwinTransformer, attention: AttentionOptions, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        economise(model, CheckpointingOptions(), attention)
