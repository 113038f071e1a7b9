"""What the load test asks, and how it reports."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from loadtest.report import LoadReport
from loadtest.traffic import QueryMix, queries_from_titles, read_queries, write_queries


def test_popularity_follows_zipf() -> None:
    mix = QueryMix([f"q{n}" for n in range(100)], seed=1)
    drawn = Counter(mix.draw() for _ in range(50_000))
    assert drawn["q0"] / drawn["q9"] == pytest.approx(10, rel=0.25)
    assert drawn["q0"] / 50_000 == pytest.approx(1 / sum(1 / n for n in range(1, 101)), rel=0.05)


def test_without_popularity_all_are_alike() -> None:
    """The control of the test above."""
    mix = QueryMix([f"q{n}" for n in range(100)], seed=1, exponent=0)
    drawn = Counter(mix.draw() for _ in range(50_000))
    assert drawn["q0"] / drawn["q9"] == pytest.approx(1, rel=0.25)


def test_the_same_seed_draws_the_same() -> None:
    queries = list("abcdefgh")
    draws = [
        [mix.draw() for _ in range(20)] for mix in (QueryMix(queries, 3), QueryMix(queries, 3), QueryMix(queries, 4))
    ]
    assert draws[0] == draws[1] != draws[2]


def test_nothing_to_ask_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one query"):
        QueryMix([])
    with pytest.raises(ValueError, match="no titles"):
        queries_from_titles([], 10)


@given(st.lists(st.text(), min_size=1, max_size=20), st.integers(0, 20))
def test_queries_come_from_titles_and_survive_the_file(titles: list[str], count: int) -> None:
    queries = queries_from_titles(titles, count)
    assert len(queries) == len(set(queries)) <= max(count, 0)
    assert all(any(query in " ".join(title.split()).lower() for title in titles) for query in queries)


def test_a_file_of_queries_is_read_as_it_was_written(tmp_path: Path) -> None:
    queries = ["red sofa", "café", "沙发", "a" * 500]
    write_queries(tmp_path / "q.txt", queries)
    assert read_queries(tmp_path / "q.txt") == queries
    (tmp_path / "w.txt").write_bytes(b"sofa\r\n\r\nlamp\r\n")
    assert read_queries(tmp_path / "w.txt") == ["sofa", "lamp"]


def test_a_report_counts_what_came_in_time() -> None:
    report = LoadReport(
        2.0, [1.0, 2.0, 3.0, 4.0], Counter(OK=4, UNAVAILABLE=2), Counter({"UNAVAILABLE: gone": 2}), late=1
    )
    assert (report.calls, report.goodput, report.percentile(50)) == (6, 1.5, 2.5)
    values = json.loads(report.as_json())
    assert values["codes"] == {"OK": 4, "UNAVAILABLE": 2}
    assert values["errors"] == {"UNAVAILABLE: gone": 2}
    assert values["percentiles"]["100"] == 4.0
    shown = io.StringIO()
    report.print(Console(file=shown, width=200), "run")
    assert "UNAVAILABLE: gone" in shown.getvalue()


def test_refusals_have_percentiles_of_their_own() -> None:
    report = LoadReport(1.0, [10.0], Counter(OK=1, RESOURCE_EXHAUSTED=3), refusals_ms=[1.0, 2.0, 3.0])
    assert (report.percentile(50), report.refusal_percentile(50)) == (10.0, 2.0)


def test_a_report_of_nothing_is_valid_json() -> None:
    report = LoadReport(0.0)
    assert math.isnan(report.percentile(50))
    assert math.isnan(report.refusal_percentile(50))
    assert report.goodput == 0.0
    assert json.loads(report.as_json(), parse_constant=pytest.fail)["percentiles"]["50"] is None
