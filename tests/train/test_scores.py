import pytest

from swinv2.train.scores import Metric, Scores

LOW = Metric(name="error", label="error", form="{:.2f}", highest=False)
HIGH = Metric(name="iou", label="mIoU")


@pytest.mark.parametrize(
    ("scores", "better", "worse"),
    [
        (Scores(), {"loss": 1.0}, {"loss": 2.0}),
        (Scores(metrics=(HIGH,), best=HIGH), {"iou": 0.5, "loss": 2.0}, {"iou": 0.4, "loss": 1.0}),
        (Scores(metrics=(HIGH,), best=HIGH), {"iou": 0.5, "loss": 1.0}, {"iou": 0.5, "loss": 2.0}),
        (Scores(metrics=(LOW,), best=LOW), {"error": 0.1}, {"error": 0.2}),
        (Scores(metrics=(LOW,), best=LOW), {"error": 9.0}, {"error": None}),
        (Scores(metrics=(LOW,)), {"error": 9.0, "loss": 1.0}, {"error": 1.0, "loss": 2.0}),
    ],
)
def test_the_best_is_by_the_metric_then_by_the_loss(scores: Scores, better: dict, worse: dict) -> None:
    assert scores.rank(better) > scores.rank(worse)
    rows = [{f"val_{name}": value for name, value in each.items()} | {"epoch": 1} for each in (better, worse)]
    assert max(rows, key=scores.rank_row) is rows[0]


def test_columns_come_after_the_losses() -> None:
    columns = Scores(metrics=(HIGH, LOW)).columns
    assert columns[:7] == ("epoch", "step", "lr", "train_loss", "val_loss", "val_iou", "val_error")
    assert columns[7:] == Scores().columns[5:]


def test_a_row_in_words_leaves_out_what_is_missing() -> None:
    row = {"epoch": 1, "train_loss": 0.5, "val_loss": None, "val_iou": 0.25, "val_error": None, "seconds": 2.0}
    scores = Scores(metrics=(HIGH, LOW), best=HIGH)
    assert scores.describe(row) == ["train loss 0.5000", "mIoU 25.00%", "2.0 s"]
    assert scores.show(row) == "mIoU 25.00%"
    assert Scores().show({"val_loss": 0.5}) == "loss 0.5000"
    assert scores.show({"val_iou": None, "val_loss": 0.5}) == "loss 0.5000"
    assert scores.show({"val_loss": None}) == "no validation"
    assert Scores(counted="clips").describe({"images_per_second": 3.0}) == ["3 clips/s"]
