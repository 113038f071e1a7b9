"""The picture of a stage that scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.evaluation.plots import inline_svg, new_figure

BLUE, ORANGE, GREEN, RED, GREY, INK = "#1f5fa8", "#d1731f", "#3b8f5a", "#b23a48", "#8a949e", "#1d2733"


def scaling_plot(
    samples: Sequence[Mapping[str, Any]],
    seconds: Sequence[Mapping[str, Any]],
    target_ms: float,
    marks: Mapping[str, float],
) -> str:
    """Plots, over time, the load of a stage, its replicas, and p99 and queue age. `marks` are the times at which the load changes."""
    figure, (above, middle, below) = new_figure(7.6, 6.4, rows=3)
    at = [row["second"] for row in seconds]
    above.plot(at, [row["offered"] for row in seconds], color=GREY, linewidth=1, label="offered")
    for name, colour in (("answered", GREEN), ("refused", ORANGE)):
        above.plot(at, [row[name] for row in seconds], color=colour, linewidth=1.3, label=name)
    failed = [row["late"] + row["lost"] for row in seconds]
    above.plot(at, failed, color=RED, linewidth=1.3, label="late or lost")
    above.set_ylabel("calls/s")
    above.set_ylim(bottom=0)
    times = [sample["at"] for sample in samples]
    for name, colour, label in (
        ("asked", ORANGE, "replicas asked for"),
        ("running", GREEN, "running"),
        ("known", BLUE, "known to the gateway"),
    ):
        values = [sample[name] for sample in samples]
        middle.plot(times, values, color=colour, linewidth=1.3, drawstyle="steps-post", label=label)
    middle.set_ylabel("replicas")
    middle.set_ylim(bottom=0)
    below.plot(at, [row["p99_ms"] for row in seconds], color=RED, linewidth=1.3, label="p99")
    below.plot(times, [max(sample["age_ms"], 1) for sample in samples], color=GREY, linewidth=1, label="queue age")
    below.axhline(target_ms, color=INK, linewidth=1, linestyle="--", label=f"target {target_ms:g} ms")
    below.set_yscale("log")
    below.yaxis.set_major_formatter("{x:g}")
    below.minorticks_off()
    below.set_ylabel("ms")
    below.set_xlabel("seconds")
    for name, place in marks.items():
        for one in (above, middle, below):
            one.axvline(place, color=INK, linewidth=0.8, linestyle=":")
        above.annotate(name, (place, 1), xycoords=("data", "axes fraction"), fontsize=8, va="bottom")
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return inline_svg(figure)
