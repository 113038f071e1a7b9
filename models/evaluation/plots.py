"""Plots for reports as inline SVG, drawn by matplotlib: means as dots, intervals as lines."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation.bootstrap import Interval
from models.evaluation.summary import ByRanker, Differences, Summary

_COLOURS = ("#1f5fa8", "#d1731f", "#3b8f5a", "#8d4fa8", "#b23a48", "#5c6b77", "#a68a00", "#1d8a99")
_GREY, _INK, _GRID = "#8a949e", "#1d2733", "#e3e7eb"
_MAX_LINES = 6  # rankers side by side in the plot by bucket; more are hard to distinguish
_MAX_VALUES = 8  # parts of a bucket in its plot, the largest; the table has all


def overall_plot(summary: Summary, unit: str) -> str:
    """Plots one dot per ranker, the best on top; the subject is highlighted, oracles are grey."""
    rankers = summary.ranked[::-1]
    figure, axes = new_figure(6.8, 0.9 + 0.3 * len(rankers))
    for row, ranker in enumerate(rankers):
        colour = _COLOURS[1] if ranker == summary.subject else _GREY if ranker in summary.oracles else _COLOURS[0]
        _dot(axes, summary.main(ranker), row, colour)
    _name_rows(axes, np.arange(len(rankers)), rankers)
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    return inline_svg(figure)


def differences_plot(differences: Differences, metric: str, unit: str) -> str:
    """Plots one dot per ranker; an interval that does not cross the line at 0 is a significant difference from the reference."""
    by_ranker = {ranker: by_metric[metric] for ranker, by_metric in differences.overall.items()}
    rankers = list(by_ranker)[::-1]
    figure, axes = new_figure(6.8, 0.9 + 0.3 * len(rankers))
    axes.axvline(0, color=_INK, linewidth=1)
    for row, ranker in enumerate(rankers):
        interval = by_ranker[ranker]
        colour = _GREY if not interval.excludes_zero else _COLOURS[2] if interval.value > 0 else _COLOURS[4]
        _dot(axes, interval, row, colour)
    _name_rows(axes, np.arange(len(rankers)), rankers)
    axes.set_xlabel(f"{unit}, difference from {differences.comparison.reference}")
    return inline_svg(figure)


def buckets_plot(by_value: Mapping[str, ByRanker], summary: Summary, unit: str) -> str:
    """Plots one group of dots per part of the bucket, one colour per ranker: the subject, the best others, and the oracle in grey."""
    oracle = list(summary.oracles[:1])
    shown = [summary.subject, *summary.others[: _MAX_LINES - 1 - len(oracle)], *oracle]
    colours = [_COLOURS[1], _COLOURS[0], *_COLOURS[2:]][: len(shown) - len(oracle)] + [_GREY] * len(oracle)
    values = sorted(by_value, key=lambda value: -_num_cases(by_value[value]))[:_MAX_VALUES]
    groups = {
        f"{value} ({_num_cases(by_ranker):,})": by_ranker for value, by_ranker in by_value.items() if value in values
    }
    return groups_plot(
        {group: {ranker: by_ranker[ranker] for ranker in shown} for group, by_ranker in groups.items()}, unit, colours
    )


def groups_plot(
    groups: Mapping[str, Mapping[str, Interval]],
    unit: str,
    colours: Sequence[str] = _COLOURS,
    *,
    from_zero: bool = True,
) -> str:
    """Plots one group of dots per name of `groups`, the first on top; every group has the same names, each with its own colour."""
    shown = list(next(iter(groups.values())))
    figure, axes = new_figure(6.8, 0.9 + len(groups) * (0.16 * len(shown) + 0.16))
    middles = []
    for place, group in enumerate(list(groups)[::-1]):
        rows = place * (len(shown) + 1.2) + np.arange(len(shown))[::-1]
        middles.append(float(rows.mean()))
        for row, colour, name in zip(rows, colours, shown, strict=False):
            _dot(axes, groups[group][name], float(row), colour, name if place == 0 else "")
    _name_rows(axes, np.array(middles), list(groups)[::-1])
    axes.set_ylim(-0.9, len(groups) * (len(shown) + 1.2) - 1.2)
    if from_zero:
        axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return inline_svg(figure)


def lines_plot(lines: Mapping[str, Sequence[Interval]], steps: Sequence[str], unit: str, x_label: str) -> str:
    """Plots one line per name, with intervals, over evenly spaced steps."""
    figure, axes = new_figure(6.8, 3.4)
    axes.grid(axis="y", color=_GRID)
    places = np.arange(len(steps))
    for shift, (name, colour) in enumerate(zip(lines, _COLOURS, strict=False)):
        at = places + 0.04 * (shift - len(lines) / 2)
        axes.plot(
            at,
            [interval.value for interval in lines[name]],
            "o-",
            color=colour,
            markersize=5,
            linewidth=1.4,
            label=name,
        )
        axes.vlines(
            at,
            [interval.low for interval in lines[name]],
            [interval.high for interval in lines[name]],
            color=colour,
            alpha=0.45,
        )
    axes.set_xticks(places, steps)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(unit)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return inline_svg(figure)


def reliability_plot(
    bins: Mapping[str, Sequence[tuple[float, float]]],
    unit: str,
    x_label: str = "predicted probability of the first type",
) -> str:
    """Plots mean predicted probability against observed share, by bin, one line per name; a calibrated model is on the diagonal.

    The axes end at 1, or just above the highest value if all probabilities are small.
    """
    figure, axes = new_figure(4.6, 4.0)
    axes.grid(axis="y", color=_GRID)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    for (name, points), colour in zip(bins.items(), _COLOURS, strict=False):
        axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, linewidth=1.2, label=name)
    highest = max((value for points in bins.values() for point in points for value in point), default=1.0)
    end = 1.0 if highest > 0.5 else 1.1 * highest
    axes.set_xlim(0, end)
    axes.set_ylim(0, end)
    axes.set_xlabel(x_label)
    axes.set_ylabel(unit)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return inline_svg(figure)


def new_figure(width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    """Creates a figure, sizes in inches, without pyplot: pyplot keeps global figures and looks for a display. Returns it with its axes; of
    several rows an array of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, sharex=True)
    for one in np.atleast_1d(axes):
        one.grid(axis="x", color=_GRID)
        one.set_axisbelow(True)
        one.spines[["top", "right", "left"]].set_visible(False)
        one.spines["bottom"].set_color(_GREY)
        one.tick_params(length=0, labelsize=9.5, colors=_INK)
    return figure, axes


def _name_rows(axes: Any, rows: np.ndarray[Any, Any], names: Sequence[str]) -> None:
    axes.set_yticks(rows, names)
    axes.set_ylim(rows.min() - 0.7, rows.max() + 0.7)


def _num_cases(by_ranker: ByRanker) -> int:
    return max(interval.num_cases for interval in by_ranker.values())


def _dot(axes: Any, interval: Interval, row: float, colour: str, label: str = "") -> None:
    if np.isfinite(interval.low):
        axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2.2, alpha=0.45)
    axes.plot([interval.value], [row], "o", color=colour, markersize=5.5, label=label or "_nolegend_")


def inline_svg(figure: Any) -> str:
    """Returns inline SVG without a prologue. Text stays text, and the same figure always gives the same SVG."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "aisle", "font.family": "sans-serif"}
    with rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
