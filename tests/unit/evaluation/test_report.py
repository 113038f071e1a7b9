"""The report says what was measured and which figures are simulated, and needs no other file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.buckets import Bucket
from models.evaluation.metrics import metric_name
from models.evaluation.page import HTML_FILE, JSON_FILE
from models.evaluation.report import html_report, write_report
from models.evaluation.results import Results
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import Comparison, Summary, summarise

NUM_CASES = 300
METRICS = ("recall@10", "recall@100", "ndcg@10", "mrr", "map")


@pytest.fixture(scope="module")
def results() -> Results:
    rng = np.random.default_rng(0)
    base = rng.random((NUM_CASES, len(METRICS)))
    groups = np.repeat(np.arange(3), [200, 95, 5]).astype(np.int32)
    return Results(
        METRICS,
        {"BM25": 0.5 * base, "unified <b>": 0.7 * base, "no graph": 0.7 * base - 0.05, "oracle": base},
        {"BM25": 0.3, "unified <b>": 0.6, "no graph": 0.6, "oracle": 3.0},
        rng.integers(80, size=NUM_CASES),
        {
            "shopper": Bucket(("habitual", "occasional", "anonymous"), groups),
            "locale": Bucket(("en-US",), np.zeros(NUM_CASES, np.int32)),
        },
    )


@pytest.fixture(scope="module")
def summary(results: Results) -> Summary:
    comparisons = [Comparison("Ablations", "unified <b>", ("no graph",), "Each leaves one block out.")]
    return summarise(results, "recall@100", comparisons, oracles=("oracle",), num_resamples=100)


def facts(*, simulated: bool) -> RunFacts:
    return RunFacts.of_this_run(
        "Unified <model>",
        simulated=simulated,
        command="aisle evaluate unified --events log",
        data={"products": 20_000, "events": 300_000},
        recipe={"name": "starter", "epochs": 1},
        seeds={"training": 7},
    )


def test_figures_are_those_of_the_results(results: Results, summary: Summary) -> None:
    assert summary.main("BM25").value == pytest.approx(results.values("BM25", "recall@100").mean())
    assert summary.subject == "unified <b>"  # of whom else nothing is said; the oracle does not compete
    assert summary.others == ["no graph", "BM25"]
    assert summary.share_of_oracle["BM25"].value == pytest.approx(0.5)
    assert summary.differences[0].overall["no graph"]["mrr"].value == pytest.approx(-0.05)
    assert summary.differences[0].by_bucket["shopper"]["habitual"]["no graph"].value == pytest.approx(-0.05)
    habitual = summary.by_bucket["shopper"]["habitual"]["oracle"]
    assert habitual.value == pytest.approx(results.values("oracle", "recall@100")[:200].mean())
    assert summary.rank_ms["oracle"] == pytest.approx(10.0)


def test_the_head_is_about_the_subject_and_the_best_of_the_others(results: Results) -> None:
    about = summarise(results, "mrr", subject="no graph", oracles=("oracle",), num_resamples=20)
    said = html_report(about, facts(simulated=True)).split("<dl>")[0]
    mean = results.values("no graph", "mrr").mean()
    assert f"<strong>no graph</strong> has MRR {mean:.3f}" in said
    assert "The best of 2 others: <strong>unified &lt;b&gt;</strong>" in said
    assert "of the oracle (simulated)" in said


def test_small_buckets_and_those_of_one_value_get_no_mean(summary: Summary) -> None:
    assert set(summary.by_bucket) == {"shopper"}
    assert set(summary.by_bucket["shopper"]) == {"habitual", "occasional"}
    assert summary.too_small["shopper"] == {"anonymous": 5}


def test_both_files_are_written_and_json_holds_every_figure(summary: Summary, tmp_path: Path) -> None:
    page = write_report(tmp_path / "new" / "report", summary, facts(simulated=True))
    assert page.name == HTML_FILE
    values = json.loads((page.parent / JSON_FILE).read_text(encoding="utf-8"))
    assert values["summary"]["overall"]["BM25"]["recall@100"]["value"] == summary.main("BM25").value
    assert values["facts"]["simulated"] is True
    assert values["facts"]["seeds"] == {"training": 7}
    assert {"python", "numpy"} <= set(values["facts"]["versions"])


def test_the_page_needs_nothing_beside_itself(summary: Summary) -> None:
    page = html_report(summary, facts(simulated=True))
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "@import" not in page
    assert page.count("<svg") == 3  # overall, ablations, shoppers


def test_the_head_says_how_to_repeat_it(summary: Summary) -> None:
    page = html_report(summary, facts(simulated=True))
    for said in ("aisle evaluate unified --events log", "20,000", "training 7", "starter", "numpy"):
        assert said in page


def test_every_section_of_simulated_figures_says_so_and_real_ones_do_not(summary: Summary) -> None:
    page = html_report(summary, facts(simulated=True))
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert all("(simulated)" in title for title in titles if title != "How to read this")
    assert len(titles) == 4
    for plot in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        assert "(simulated)" in plot
    assert "imulated" not in html_report(summary, facts(simulated=False))


def test_names_are_text_and_not_markup(summary: Summary) -> None:
    page = html_report(summary, facts(simulated=True))
    assert "unified &lt;b&gt;" in page
    assert "<b>" not in page
    assert "Unified &lt;model&gt;" in page


def test_the_same_figures_give_the_same_plots(summary: Summary) -> None:
    same = facts(simulated=False)
    assert html_report(summary, same) == html_report(summary, same)


def test_what_cannot_be_told_is_null_in_json(results: Results) -> None:
    alone = Results(METRICS, results.scores, results.rank_s, np.zeros(NUM_CASES, np.int64), {})
    values = summarise(alone, "mrr", num_resamples=10).to_json()
    assert values["overall"]["BM25"]["mrr"]["low"] is None
    json.dumps(values, allow_nan=False)


def test_unknown_names_are_refused(results: Results) -> None:
    with pytest.raises(ValueError, match="metric 'recall@7' is not among recall@10"):
        summarise(results, "recall@7")
    with pytest.raises(ValueError, match="rankers MiniLM are not among BM25"):
        summarise(results, "mrr", [Comparison("x", "MiniLM", ("BM25",))])


@pytest.mark.parametrize(
    ("metric", "name"), [("recall@10", "Recall@10"), ("ndcg@10", "NDCG@10"), ("mrr", "MRR"), ("map", "MAP")]
)
def test_metrics_have_their_usual_names(metric: str, name: str) -> None:
    assert metric_name(metric) == name
