"""A picture of what a model sees in a video as time goes by."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from swinv2.tasks.video_inference import Timeline


def draw_timeline(timeline: Timeline, top: int = 5) -> Figure:
    """Frames of the video over the probabilities of its likeliest classes, both along the same time.

    Args:
        timeline: What to draw.
        top: So many classes: those that are likeliest at some moment.
    """
    columns = len(timeline.pictures)
    figure = Figure(figsize=(11, 5), layout="constrained")
    grid = figure.add_gridspec(2, columns, height_ratios=(1, 3))
    for place, picture in enumerate(timeline.pictures):
        figure.add_subplot(grid[0, place], xticks=[], yticks=[]).imshow(picture)
    axes = figure.add_subplot(grid[1, :])
    marker = "o" if len(timeline.moments) == 1 else "."
    for label in timeline.top(top):
        name = _printable(timeline.classes[label]).replace("$", r"\$")
        axes.plot(timeline.moments, timeline.probabilities[:, label].tolist(), marker=marker, label=name)
    axes.set(xlim=(0, timeline.seconds), ylim=(0, 1.02), xlabel="seconds", ylabel="probability")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=min(top, 5), frameon=False)
    figure.suptitle(_printable(timeline.name), parse_math=False)
    return figure


def _printable(text: str) -> str:
    """Text without the surrogates of undecodable names, which cannot be drawn."""
    return text.encode(errors="backslashreplace").decode()
