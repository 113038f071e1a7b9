"""One call trains, compares and reports; each variant lacks one thing; what is trained is not trained twice."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.bundles.sources import catalogue_source
from models.evaluation.cases import Cases, Split, build_cases
from models.evaluation.numbered_log import read_log
from models.evaluation.page import JSON_FILE
from models.sample_store import SAMPLE_COLUMNS, write_sample_log
from models.studies.case_histories import history_events
from models.studies.oracle_ranker import TruthError, load_oracles
from models.studies.unified.evaluate_unified import UnifiedEvaluation, evaluate_unified
from models.studies.unified.unified_variants import HALF, NO_HISTORY_EVER, choose_variants, variants_of
from models.unified.recipe import STARTER, QueryGeneration, TowerSizes, UnifiedRecipe
from models.unified.words import WordHashing

NUM_PRODUCTS = 1000
TINY = replace(
    STARTER,
    name="tiny",
    max_steps=3,
    batch=64,
    graph_dim=8,
    hashing=WordHashing(bits=10),
    sizes=TowerSizes(
        dim=16,
        prefixes=(16,),
        token_dim=16,
        id_bits=8,
        id_dim=4,
        product_hidden=16,
        query_hidden=16,
        mix_hidden=16,
        heads=2,
    ),
    query_generation=QueryGeneration(dim=16, heads=2, steps=2, batch=16, vocabulary=256),
    negatives=replace(STARTER.negatives, uniform=32, hardest_in_batch=4),
)
PLAN = UnifiedEvaluation(TINY, variants=("no graph", "trained without history"), encoder=None, max_cases=60)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    write_sample_log(folder, NUM_PRODUCTS, 80, 20_000, 0, lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def simulated_cases(simulated: Path) -> Cases:
    ids = pq.read_table(simulated / "catalogue.parquet")["id"].to_pylist()
    log = read_log(simulated / "events.parquet", ids)
    return build_cases(log, Split.by_share(log))


def run(simulated: Path, out: Path, *, plan: UnifiedEvaluation = PLAN) -> tuple[dict[str, object], list[str]]:
    """The summary, and the steps that were reported as progress."""
    source = catalogue_source(
        simulated / "catalogue.parquet", {}, SAMPLE_COLUMNS.text, SAMPLE_COLUMNS.attributes, currency="USD"
    )
    told: list[str] = []
    page = evaluate_unified(
        source,
        (simulated / "events.parquet", simulated / "storefronts.parquet"),
        out,
        lambda what, *_: told.append(what),
        plan=plan,
        truth=simulated / "truth.json",
        command="evaluate it",
    )
    return json.loads((page.parent / JSON_FILE).read_text(encoding="utf-8")), told


def test_one_call_reports_model_ablations_baselines_control_and_oracle(simulated: Path, tmp_path: Path) -> None:
    values, told = run(simulated, tmp_path / "report")
    summary = values["summary"]
    assert list(summary["overall"]) == [  # type: ignore[index,call-overload]
        "BM25",
        "popular in category",
        "buy again",
        "oracle",
        "oracle without the shopper",
        "unified",
        "unified, history hidden",
        "unified, others' histories",
        "unified, half the training",
        "no graph",
        "trained without history",
    ]
    asked = summary["overall"]["unified"]["recall@10"]["num_cases"]  # type: ignore[index,call-overload]
    known = summary["overall"]["oracle"]["recall@10"]["num_cases"]  # type: ignore[index,call-overload]
    assert 0 < known < asked  # the oracle knows nothing of other locales
    titles = [one["comparison"]["title"] for one in summary["differences"]]  # type: ignore[index,call-overload]
    assert titles == [
        "Compared with the unified model",
        "Effect of personalisation",
        "Product blocks: ablations",
    ]
    assert values["facts"]["simulated"] is True  # type: ignore[index,call-overload]
    assert values["facts"]["recipe"]["name"] == "tiny"  # type: ignore[index,call-overload]
    assert any(what.startswith("no graph: train") for what in told)

    again, told_again = run(simulated, tmp_path / "report")
    assert not any(": train" in what for what in told_again)
    assert again["summary"]["overall"]["unified"] == summary["overall"]["unified"]  # type: ignore[index,call-overload]

    other = replace(PLAN, recipe=replace(TINY, learning_rate=1e-3), variants=())
    _, told_other = run(simulated, tmp_path / "report", plan=other)
    assert any(what.startswith("unified: train") for what in told_other)


def test_nothing_beats_the_oracle_and_it_gains_by_knowing_the_shopper(simulated: Path, simulated_cases: Cases) -> None:
    from models.evaluation.results import evaluate_rankers
    from models.studies.baselines import PopularRanker

    popular = PopularRanker(simulated_cases.events, simulated_cases.split)
    results = evaluate_rankers([*load_oracles(simulated / "truth.json"), popular], simulated_cases, ks=(5,))
    knowing, anyone, guess = (results.values(name, "recall@5").mean() for name in results.scores)
    assert knowing > anyone > guess


def test_the_truth_of_another_log_is_refused(simulated: Path, simulated_cases: Cases, tmp_path: Path) -> None:
    with pytest.raises(TruthError, match=r"none\.json cannot be read"):
        load_oracles(tmp_path / "none.json")
    (tmp_path / "truth.json").write_text('{"num_products": 5}')
    with pytest.raises(TruthError, match="no truth of this version's"):
        load_oracles(tmp_path / "truth.json")
    truth = json.loads((simulated / "truth.json").read_text()) | {"num_products": 1200}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(TruthError, match="has 1,200 products, the catalogue 1,000"):
        load_oracles(tmp_path / "truth.json")[0].rank(simulated_cases, 5)


def test_a_history_has_searches_that_led_to_nothing_and_no_impression_beside_them(simulated_cases: Cases) -> None:
    log = simulated_cases.events
    told = history_events(log)
    searches = {(int(s), int(q)) for s, q in zip(log.sessions, log.queries, strict=True)}
    seen = {(int(log.sessions[row]), int(log.queries[row])) for row in told.rows}
    assert seen == searches
    impressions = told.rows[log.kinds[told.rows] == 0]
    assert len({(int(log.sessions[row]), int(log.queries[row])) for row in impressions}) == len(impressions)
    assert np.count_nonzero(log.kinds >= 1) == len(told.rows) - len(impressions)


class TestVariants:
    def test_each_lacks_one_thing(self) -> None:
        half = replace(STARTER, epochs=STARTER.epochs / 2)
        for variant in variants_of(STARTER, num_locales=2):
            reference = half if variant.group else STARTER
            changed = [
                field.name
                for field in fields(UnifiedRecipe)
                if getattr(variant.recipe, field.name) != getattr(reference, field.name)
            ]
            assert len(changed) == 1, variant.name

    def test_all_blocks_negatives_and_the_schedule_are_there_once(self) -> None:
        names = [variant.name for variant in variants_of(STARTER, num_locales=2)]
        assert len(set(names)) == len(names)
        assert {"no text", "no graph", "no ngrams", "no ids", "no scalars", "no locale"} < set(names)
        assert {"no queries in the history", "no purchases in the history", "trained without history"} < set(names)
        assert {"uniform negatives only", "in-batch negatives only", "all negatives from the start"} < set(names)

    def test_what_the_model_does_not_have_is_not_left_out(self) -> None:
        assert "no locale" not in [variant.name for variant in variants_of(STARTER, num_locales=1)]
        bare = replace(STARTER, products=replace(STARTER.products, text="none", graph=False))
        names = {variant.name for variant in variants_of(bare, num_locales=2)}
        assert names.isdisjoint({"no text", "no graph"})

    def test_unknown_variants_are_refused(self) -> None:
        variants = variants_of(STARTER, num_locales=2)
        assert choose_variants(variants, None) == variants
        assert [variant.name for variant in choose_variants(variants, ["no ids"])] == [HALF, "no ids"]
        assert [variant.name for variant in choose_variants(variants, [NO_HISTORY_EVER])] == [NO_HISTORY_EVER]
        with pytest.raises(
            ValueError, match="variants no colour are not among unified, half the training, no text, no graph"
        ):
            choose_variants(variants, ["no colour"])
