"""Tables of answers: intervals, paired differences, buckets; and the page and JSON they are written to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.bootstrap import Interval, mean_interval, statistic_intervals
from models.evaluation.buckets import Bucket
from models.evaluation.page import HTML_FILE, JSON_FILE, Section, Table, write_sections
from models.evaluation.plots import groups_plot, lines_plot, reliability_plot
from models.evaluation.ranked_types import RankedTypes
from models.evaluation.run_facts import RunFacts
from models.evaluation.type_metrics import METRICS
from models.studies.types.type_tables import (
    TypeResults,
    accuracy_by,
    bucket_differences,
    bucket_table,
    compare,
    measure,
    metrics_table,
    string_units,
)
from models.unified.words import Ragged

NUM_QUERIES, NUM_TYPES = 240, 4


def results(share_right: float, seed: int) -> RankedTypes:
    """A model that is right so often, and says 0.8 of whatever it says."""
    rng = np.random.default_rng(seed)
    true_types = np.arange(NUM_QUERIES) % NUM_TYPES
    said = np.where(rng.random(NUM_QUERIES) < share_right, true_types, (true_types + 1) % NUM_TYPES)
    types = np.stack([said, (said + 2) % NUM_TYPES], axis=1)
    probabilities = np.tile(np.array([0.8, 0.2], np.float32), (NUM_QUERIES, 1))
    labels = Ragged.from_rows([[one] for one in true_types.tolist()])
    empty = np.zeros(types.shape, np.bool_)
    return RankedTypes(types, probabilities, empty, empty[:, 0], labels, NUM_TYPES).judged_by(labels)


@pytest.fixture(scope="module")
def both() -> TypeResults:
    units = string_units([f"query {at // 2}" for at in range(NUM_QUERIES)])
    tiers = Bucket(("high", "low", "tiny"), np.repeat([0, 1, 2], [120, 110, 10]).astype(np.int32))
    return TypeResults({"good": results(0.9, 0), "poor": results(0.5, 1)}, units, {"tier": tiers})


def test_every_metric_has_an_interval_that_holds_it(both: TypeResults) -> None:
    figures = measure(both)
    for by_metric in figures.values():
        assert tuple(by_metric) == METRICS
        for name in ("accuracy@1", "macro F1", "recall at 0.8 precision"):
            one = by_metric[name]
            assert one.low <= one.value <= one.high
            assert one.num_units == NUM_QUERIES // 2  # strings, not rows
    assert figures["good"]["accuracy@1"].value == pytest.approx(0.9, abs=0.06)
    assert figures["good"]["calibration error"].value < figures["poor"]["calibration error"].value


def test_differences_are_paired(both: TypeResults) -> None:
    figures = measure(both)
    difference = compare(both, "good", ["poor"])["poor"]
    for name in METRICS:
        assert difference[name].value == pytest.approx(figures["poor"][name].value - figures["good"][name].value)
    assert difference["macro F1"].high < 0
    same = compare(both, "good", ["good"])["good"]
    assert all(one.low == one.high == 0 for one in same.values())


def test_small_buckets_get_no_mean(both: TypeResults) -> None:
    assert set(accuracy_by(both, "tier")) == {"high", "low"}
    table = bucket_table(both, "tier")
    assert [(name, cells[0]) for name, cells in table.rows] == [("high", 120), ("low", 110)]
    assert bucket_differences(both, "tier", "good", ["poor"]).rows[0][1][0].value > 0.2  # type: ignore[union-attr]


def test_answers_to_other_queries_are_refused(both: TypeResults) -> None:
    with pytest.raises(ValueError, match="other queries"):
        both.with_models_of(both.take(np.arange(5)))
    with pytest.raises(ValueError, match=r"different numbers of queries: \[5, 240\]"):
        TypeResults({"one": results(1, 0)}, np.arange(5), {})


def test_the_interval_of_a_mean_is_the_same_by_either_way() -> None:
    values = np.random.default_rng(0).random(200)
    units = np.arange(200) // 2
    (general,) = statistic_intervals(lambda weights: np.array([np.average(values, weights=weights)]), units, seed=3)
    mean = mean_interval(values, units, seed=3)
    assert general.value == pytest.approx(mean.value)
    assert (general.low, general.high) == pytest.approx((mean.low, mean.high), abs=0.01)


def test_of_one_unit_there_is_no_interval() -> None:
    (one,) = statistic_intervals(lambda weights: np.array([weights.sum()]), np.zeros(5, np.int64))
    assert (one.value, np.isnan(one.low)) == (5.0, True)


def facts(*, simulated: bool) -> RunFacts:
    return RunFacts.of_this_run("Types <b>", simulated=simulated, command="evaluate", data={"types": 4})


def test_the_page_and_json_hold_the_tables(both: TypeResults, tmp_path: Path) -> None:
    table = metrics_table(both, "All & every")
    plots = [
        groups_plot(accuracy_by(both, "tier"), "accuracy@1"),
        lines_plot({"good": [Interval(0.1, 0.0, 0.2, 9, 9)] * 2}, ["0", "100"], "accuracy@1", "queries"),
        reliability_plot({"good": [(0.2, 0.1), (0.8, 0.9)]}, "right"),
    ]
    words = Table("Strings", "string", ("said",), [("<pants>", ["<trousers>"]), ("n", [None])])
    page = write_sections(
        tmp_path / "new", facts(simulated=True), "Good.", [Section("One", "", plots, [table, words])], "So."
    )
    assert page.name == HTML_FILE
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    assert "&lt;trousers&gt;" in text
    assert "<pants>" not in text
    assert "All &amp; every" in text
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["One (simulated)", "How to read this"]
    assert not re.search(r"<(script|link|img|iframe)\b", text)
    values = json.loads((page.parent / JSON_FILE).read_text(encoding="utf-8"))
    assert values["facts"]["simulated"] is True
    assert values["sections"][0]["tables"][0]["rows"][0][1][0]["value"] == measure(both)["good"]["accuracy@1"].value
    write_sections(tmp_path, facts(simulated=False), "Good.", [Section("One", "", (), [words])], "So.")
    assert "imulated" not in (tmp_path / HTML_FILE).read_text(encoding="utf-8")


def test_rows_and_columns_must_agree() -> None:
    with pytest.raises(ValueError, match="row 'x' of 'Cap' has 1 cells for 2 columns"):
        Table("Cap", "name", ("a", "b"), [("x", [1])])
