"""The plots of a load report as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.judge.search_rate import Window
from models.evaluation.plots import inline_svg, new_figure

BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#d1731f", "#3b8f5a", "#b23a48", "#8a949e"
PERCENTILE_COLOURS = {"p50": GREEN, "p95": BLUE, "p99": ORANGE, "p99.9": RED}


def walk_plot(windows: Sequence[Window], keeps: Sequence[bool], found: float, low: float, high: float) -> str:
    """Plots the rate of each window of the search: filled if it kept the target. The band is the interval of the result."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(7.6, 3.0)
    axes.grid(axis="y", color="#e3e7eb")
    places = range(1, len(windows) + 1)
    axes.plot(places, [window.rate for window in windows], "-", color=GREY, linewidth=1)
    for kept, colour, label in ((True, GREEN, "kept the target"), (False, RED, "missed it")):
        some = [(place, window.rate) for place, window, one in zip(places, windows, keeps, strict=True) if one == kept]
        if some:
            axes.plot(*zip(*some, strict=True), "o", color=colour, markersize=5, label=label)
    if math.isfinite(found):
        axes.axhspan(low, high, color=BLUE, alpha=0.15)
        axes.axhline(found, color=BLUE, linewidth=1.4, label=f"{found:.0f} calls/s")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("window")
    axes.set_ylabel("calls/s")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return inline_svg(figure)


def latency_plot(rates: Sequence[float], by_name: Mapping[str, Sequence[float]], target_ms: float) -> str:
    """Plots latencies over the offered rate, on a logarithmic scale, with the target."""
    figure, axes = new_figure(7.6, 3.4)
    axes.grid(axis="y", color="#e3e7eb")
    for name, values in by_name.items():
        axes.plot(rates, values, "o-", color=PERCENTILE_COLOURS[name], markersize=4, linewidth=1.4, label=name)
    axes.axhline(target_ms, color=GREY, linewidth=1.2, linestyle="--", label=f"target {target_ms:g} ms")
    _in_decades(axes)
    axes.set_xlabel("offered calls/s")
    axes.set_ylabel("ms, from the planned time")
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return inline_svg(figure)


def goodput_plot(rates: Sequence[float], goodput: Sequence[float], refused: Sequence[float]) -> str:
    """Plots what was answered in time and what was refused, in calls a second, over the offered rate."""
    figure, axes = new_figure(7.6, 3.0)
    axes.grid(axis="y", color="#e3e7eb")
    axes.plot([0, max(rates)], [0, max(rates)], color=GREY, linewidth=1, label="all of them")
    axes.plot(rates, goodput, "o-", color=GREEN, markersize=4, linewidth=1.4, label="answered in time")
    axes.plot(rates, refused, "o-", color=ORANGE, markersize=4, linewidth=1.4, label="refused")
    axes.set_xlabel("offered calls/s")
    axes.set_ylabel("calls/s")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return inline_svg(figure)


def story_plot(seconds: Sequence[dict[str, Any]], target_ms: float, marks: Mapping[str, float]) -> str:
    """Plots calls and p99 second by second, one above the other. `marks` are the times of stages and faults."""
    figure, axes = new_figure(7.6, 5.0, rows=2)
    above, below = axes
    at = [row["second"] for row in seconds]
    ok = [row["codes"].get("OK", 0) for row in seconds]
    refused = [row["codes"].get("RESOURCE_EXHAUSTED", 0) for row in seconds]
    failed = [sum(row["codes"].values()) - one - two for row, one, two in zip(seconds, ok, refused, strict=True)]
    above.plot(at, [row["sent"] for row in seconds], color=GREY, linewidth=1, label="sent")
    for values, colour, label in ((ok, GREEN, "answered"), (refused, ORANGE, "refused"), (failed, RED, "failed")):
        above.plot(at, values, color=colour, linewidth=1.3, label=label)
    above.set_ylabel("calls/s")
    above.set_ylim(bottom=0)
    for name, colour in (("p50", GREEN), ("p99", ORANGE)):
        below.plot(at, [row[name] for row in seconds], color=colour, linewidth=1.3, label=name)
    below.axhline(target_ms, color=GREY, linewidth=1.2, linestyle="--", label=f"target {target_ms:g} ms")
    _in_decades(below)
    below.set_ylabel("ms")
    below.set_xlabel("seconds since the start")
    for name, place in marks.items():
        for one in axes:
            one.axvline(place, color="#1d2733", linewidth=0.8, linestyle=":")
        above.annotate(name, (place, 1), xycoords=("data", "axes fraction"), fontsize=8, rotation=0, va="bottom")
    figure.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=9)
    return inline_svg(figure)


def memory_plot(totals: Sequence[tuple[float, int, int]]) -> str:
    """Plots the resident memory of all processes together over time."""
    figure, axes = new_figure(7.6, 2.4)
    axes.grid(axis="y", color="#e3e7eb")
    axes.plot([at for at, _, _ in totals], [rss / 2**20 for _, rss, _ in totals], color=BLUE, linewidth=1.4)
    axes.set_xlabel("seconds since the start")
    axes.set_ylabel("MiB")
    return inline_svg(figure)


def _in_decades(axes: Any) -> None:
    """Makes the vertical axis logarithmic, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
